"""Sampling: completions drawn from a policy, many of one prompt at once."""
