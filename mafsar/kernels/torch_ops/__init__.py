"""The kernels as torch ops, with gradients."""
