"""Tuned tables derived from records, and their exchange with serving engines."""
