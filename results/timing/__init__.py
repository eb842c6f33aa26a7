"""Timing: the measurement protocol, the clocks, and what is read from the machine meanwhile."""
