"""Programs of steps that are not verbs of `moebench`: one program a file, started as ``python -m``."""
