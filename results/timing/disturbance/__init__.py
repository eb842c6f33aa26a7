"""Disturbance of a sample on the host: what others took of its cores, a stop of the process, a clock that is off."""

from .watch import Disturbance, Span, Watch

__all__ = ["Disturbance", "Span", "Watch"]
