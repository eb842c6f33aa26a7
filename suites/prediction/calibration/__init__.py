"""Calibration: probing the ranks of a job and fitting a machine description to what they measured."""
