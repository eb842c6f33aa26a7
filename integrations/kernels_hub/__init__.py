"""Folder for the Hugging Face kernels hub, built from modules of this package."""
