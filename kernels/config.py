"""The configuration of one build of an implementation."""

from __future__ import annotations

from collections.abc import Mapping

Config = Mapping[str, int | float | str | bool]
"""The tunable choices of one build, by name; part of a record's identity."""
