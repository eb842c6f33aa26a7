"""The experts implementation "moebench" of Hugging Face transformers."""
