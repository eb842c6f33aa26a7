"""Calibration: probe the ranks of a job and fit a machine description to the measurements."""
