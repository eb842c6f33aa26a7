"""CUDA C++ sources, and the Python that compiles and launches them."""
