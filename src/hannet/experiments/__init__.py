"""Experiments: what to compute, where it is kept, how it is shown."""
