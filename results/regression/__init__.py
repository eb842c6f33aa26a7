"""Regression detection: paired comparison of records, sequential measurement, history."""
