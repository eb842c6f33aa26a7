"""Tuned tiles in the files of serving engines: read, written, and judged."""
