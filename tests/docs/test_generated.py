"""Generated parts of the documentation are those that the code would give now."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from docs_scripts import generate
from exhaustive import all_but
from pages import ROOT

SLOW = {"docs/models.md"}
"""Pages that import all models of transformers; of this one another test says when a family is missing."""


@pytest.mark.parametrize("page", all_but([page for page in generate.GENERATED if page not in SLOW], generate.GENERATED))
def test_generated_parts_are_current(page: str) -> None:
    assert (ROOT / page).read_text() == generate.renewed(page), f"run `python docs/generate.py`: {page} is old"


@pytest.mark.parametrize("name", generate.PICTURES)
def test_generated_pictures_are_current(name: str) -> None:
    assert (ROOT / name).read_text() == generate.PICTURES[name](), f"run `python docs/generate.py`: {name} is old"


@pytest.mark.parametrize("schema", [generate.record_schema, generate.advice_schema])
def test_every_field_is_described(schema: Callable[[], str]) -> None:
    rows = [line for line in schema().splitlines() if line.startswith("| `")]
    assert rows
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_module_has_a_first_line() -> None:
    lines = [line for line in generate.package_tree().splitlines() if line.startswith("- `")]
    assert len(lines) > 200
    assert [line for line in lines if line.endswith((":", ": "))] == []


def test_anchors_are_those_of_github() -> None:
    assert generate.heading_anchor("`--no-python moebench`, not `python -m`") == "--no-python-moebench-not-python--m"
    assert generate.heading_anchor("Reading [a report](report.md): 95 %") == "reading-a-report-95-"
