"""Answers: sentences, tables, plots and pages, from records alone. Never imports torch, Triton or CuPy."""
