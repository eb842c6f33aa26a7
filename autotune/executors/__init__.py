"""Executors: on the devices of this machine, or on those of a Ray cluster."""
