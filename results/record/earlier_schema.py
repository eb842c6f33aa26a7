"""Lines of schema 1 read as schema 2, which has fields for what schema 1 wrote into the series of a point."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

CACHES: Final = {", hot caches": "hot", ", eager calls": "eager"}
BATCH: Final = re.compile(r"(search|final|cross|held-out) ([0-9]+)")
TUNING: Final = "tune"
"""The suite of a tuning run's records, whose series were a stage and the number of a batch."""


def upgraded(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of schema 1 as one of schema 2: cache, stage and batch of its point are no longer in its series.

    ``sent_bytes`` is the sum of what ``traffic`` has; it is kept for a record without traffic. A line that is no record
    comes back as little changed as possible, for validation to name what is wrong with it.
    """
    sent = line.get("sent_bytes")
    line = {name: value for name, value in line.items() if name != "sent_bytes"}
    if sent and not line.get("traffic"):
        line["sent_before_traffic"] = sent
    point, timing = line.get("point"), line.get("timing")
    if not isinstance(point, Mapping) or not isinstance(point.get("series"), str):
        return {**line, "schema_version": 2}
    series, cache = _without_cache(point["series"])
    if isinstance(timing, Mapping):
        cache = timing.get("cache", cache)
    fields: dict[str, Any] = {"series": series, "cache": cache}
    if point.get("suite") == TUNING and (batch := BATCH.fullmatch(series)):
        fields |= {"series": "", "stage": batch[1], "batch": int(batch[2])}
    return {**line, "schema_version": 2, "point": {**point, **fields}}


def _without_cache(series: str) -> tuple[str, str]:
    for words, cache in CACHES.items():
        if series.endswith(words):
            return series.removesuffix(words), cache
    return series, "cold"
