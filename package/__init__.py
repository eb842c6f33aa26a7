"""moebench: benchmarks and kernel autotuning for the dispatch of Mixture-of-Experts layers."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("moebench")
