"""Answers: what the rows of a report support, in sentences and in a summary."""
