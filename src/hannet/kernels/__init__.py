"""Fused kernels: the same two functions, a stack's forward and backward pass, for each kind of device."""
