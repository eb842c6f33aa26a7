"""Observers: each fills one field of a record beside the samples, and is one file here."""
