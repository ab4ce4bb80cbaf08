"""Rewards: components, regimes that weigh them, and groups of completions compared under them."""
