"""What steps run that is no verb of `moebench`: one program a file, started as ``python -m``."""
