"""Plots of the sections of a report, as SVG: a kind is a file in kinds."""
