"""Timing: the measurement protocol, the clocks, and the readings of the machine."""
