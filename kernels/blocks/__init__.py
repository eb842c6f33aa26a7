"""Blocks: layers with experts in them, one file each, found by name."""
