"""Optimiser steps in one process or several, of all weights or of adapters, with checkpoints that survive a kill."""
