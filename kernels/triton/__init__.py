"""Triton kernels of the grouped GEMM and the layers built from them."""
