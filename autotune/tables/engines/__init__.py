"""Serving engines, one file each: the names and the content of their files of tuned tiles."""
