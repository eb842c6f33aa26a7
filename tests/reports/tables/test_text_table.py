"""A table of text is aligned, prints foreign text without obeying it, and is Markdown or a grid of a terminal."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from moebench.reports.tables.text_table import grid, markdown


def _printed(table: Table, width: int = 80) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True, color_system=None)
    console.print(table)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_words_are_aligned_to_the_left_and_numbers_to_the_right() -> None:
    assert markdown(["kernel", "ms"], [["a", "1.25"], ["grouped", "10"]], words=["kernel"]).splitlines() == [
        "| kernel  |   ms |",
        "| ------- | ---: |",
        "| a       | 1.25 |",
        "| grouped |   10 |",
    ]


def test_the_rule_of_a_column_of_single_digits_is_one_of_markdown() -> None:
    assert markdown(["K", "w"], [["8", "x"]], words=["w"]).splitlines() == ["|  K | w  |", "| -: | -- |", "|  8 | x  |"]


def test_a_grid_has_the_same_columns_without_lines_and_keeps_blank_rows() -> None:
    rows = [(["a", "1.25"], "bold"), ([], ""), (["grouped", "10"], "")]
    assert _printed(grid(["kernel", "ms"], rows, words=["kernel"])) == [
        "kernel     ms",
        "a        1.25",
        "",
        "grouped    10",
    ]


def test_a_grid_prints_markup_and_folds_what_is_longer_than_its_column() -> None:
    lines = _printed(grid(["a"], [(["[red]x[/red]"], "")], words=["a"], widths=[6]))
    assert lines == ["a", "[red]x", "[/red]"]


def test_headings_may_be_left_to_another_table() -> None:
    assert _printed(grid(["kernel"], [(["a"], "")], words=["kernel"], with_headings=False)) == ["a"]
