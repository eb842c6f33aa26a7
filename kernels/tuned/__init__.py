"""Tuned tables: the file format, the look-up for a problem, and the choice of a kernel."""
