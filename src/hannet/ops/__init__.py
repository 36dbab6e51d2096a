"""The stack of Han-layers as a PyTorch operator: which code runs, the operator itself, the reference, the kernels."""
