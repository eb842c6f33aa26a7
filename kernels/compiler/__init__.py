"""Compiling kernels for GPUs that this machine lacks, and reading the machine code."""
