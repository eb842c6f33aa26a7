"""Verbs that measure or predict."""
