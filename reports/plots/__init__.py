"""Plots: median time along the axis of a suite, as SVG."""
