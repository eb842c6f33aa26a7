"""Cells show text as text, whole, and fold what is long."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from moebench.reports.columns import Column
from moebench.reports.web.cells import FOLDED, cells, folded

NUMERIC, WORDS = Column("a", lambda _: ""), Column("b", lambda _: "", numeric=False)


class _Text(HTMLParser):
    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = [""]
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        self.texts[-1] += data


@given(st.text(max_size=3 * FOLDED).filter(lambda text: "\r" not in text and "\0" not in text))
def test_text_is_text_and_whole(text: str) -> None:
    found = _Text(folded(text))
    assert found.tags == (["details", "summary"] if len(text) > FOLDED else [])
    assert text in found.texts


def test_a_row_has_a_cell_for_each_column() -> None:
    assert cells([NUMERIC, WORDS], ["1", "<b>"]) == '<td>1</td><td class="text">&lt;b&gt;</td>'
