"""Comparisons: two files of records side by side, as data and as pages."""
