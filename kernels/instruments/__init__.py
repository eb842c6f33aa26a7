"""Instruments that watch kernels while they run: launches are counted, stages of calls are timed."""
