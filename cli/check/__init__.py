"""Verbs that compare: regression checks, history, counters, compiled kernels."""
