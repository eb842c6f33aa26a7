"""Kinds of plots: each is a function from a data frame to a figure, and one to the drawing of a section."""
