"""Autotuning: search spaces, search strategies, tuned tables, and the table files of serving engines."""
