"""Experts of torchtitan computed by moebench; its router, dispatcher and state dicts stay as they are."""
