"""Reward components and the regimes made of them. Knows questions and answers, nothing of models."""
