"""Pytest plugin: ``--part K/N`` runs part K of N parts of the selected tests, so that a long set can rotate by day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

import pytest


class Part(NamedTuple):
    """Part ``number`` of ``parts``, counted from 0. A test is in the same part on every machine."""

    number: int
    parts: int

    @staticmethod
    def parse(text: str) -> Part:
        """Return the part that the text names.

        Raises:
            ValueError: when it is not K/N with 0 <= K < N.
        """
        number, slash, parts = text.partition("/")
        if not (slash and number.isdecimal() and parts.isdecimal() and int(number) < int(parts)):
            raise ValueError(f"--part {text}: give K/N with K from 0 to N - 1, such as 0/10")
        return Part(int(number), int(parts))

    def holds(self, test: str) -> bool:
        """Return whether the test with this id belongs to the part."""
        return crc32(test.encode()) % self.parts == self.number


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", metavar="K/N", help="run only part K of N parts of the selected tests, K from 0")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    text: str | None = config.getoption("--part")
    if text is None:
        return
    try:
        part = Part.parse(text)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    left_out: Sequence[pytest.Item] = [item for item in items if not part.holds(item.nodeid)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if part.holds(item.nodeid)]
