"""Group relative policy optimisation (Shao et al. 2024, DeepSeekMath, arXiv:2402.03300)."""
