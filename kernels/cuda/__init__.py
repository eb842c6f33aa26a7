"""CUDA C++ kernels that sort routes, and the Python that compiles and launches them."""
