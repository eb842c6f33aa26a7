"""Verbs that tune kernels and handle tuned tables."""
