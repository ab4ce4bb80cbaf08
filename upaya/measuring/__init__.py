"""Measuring: evaluation, probe, audit, memory plan, and the curves and tables made of what stages wrote."""
