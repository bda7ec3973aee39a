"""The kernels as torch ops with gradients. The only part of `mafsar.kernels` that needs torch."""
