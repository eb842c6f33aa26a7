"""Building blocks of the layers that run on a GPU, in Triton and torch."""
