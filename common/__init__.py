"""Small helpers that every folder may import: errors, names, files. Imports nothing of the package."""
