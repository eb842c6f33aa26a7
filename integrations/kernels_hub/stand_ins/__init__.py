"""Modules that take the place of those that need more than torch and Triton in the folder for the kernels hub."""
