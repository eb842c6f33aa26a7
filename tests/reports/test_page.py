"""Pages hold everything, need nothing else, and show the text of records without obeying it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from moebench.reports.columns import Column, worth
from moebench.reports.page import SUMMARISED
from moebench.reports.plots.drawing import Drawing
from moebench.reports.report import Report
from moebench.reports.row import Row
from moebench.reports.section import Section
from moebench.reports.tables.text_table import escaped
from moebench.results.record import Environment, Invariance, Record, Sameness, Status

Make = Callable[..., Record]
EVIL = "<script>alert(1)</script>|`x`](http://example.org)\n# '\"><img src=x onerror=y> ../../x {{ 7*7 }} &amp; $a$"


class _Outline(HTMLParser):
    """Tags with their attributes, and the text between them."""

    VOID = ("meta", "br", "wbr", "img", "link", "hr", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _html(records: list[Record], path: Path, problems: tuple[str, ...] = ()) -> tuple[str, _Outline]:
    written = Report(records, problems).write(path / "deep" / "report.html")
    html = written.read_text(encoding="utf-8")
    outline = _Outline(html)
    assert outline.open == [], "every tag is closed"
    return html, outline


def test_the_columns_of_a_table_are_chosen_once_and_not_for_every_row(
    sweep: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def noted(asked: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
        calls.append(rows)
        return worth(asked, rows)

    monkeypatch.setattr("moebench.reports.page.worth", noted)
    report = Report(sweep)
    report.write(tmp_path / "r.html")
    assert len(calls) <= 2 * len(report.sections)


@pytest.fixture(scope="module")
def page(sweep: list[Record], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, _Outline]:
    """Write the long report as HTML."""
    return _html(sweep, tmp_path_factory.mktemp("html"), ("run.jsonl:3: not a record",))


@pytest.fixture(scope="module")
def markdown(sweep: list[Record], make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the long report as Markdown, followed by malicious records."""
    return Report([*sweep, *_evil(make)]).write(tmp_path_factory.mktemp("markdown") / "r.md")


def test_importing_and_writing_reports_never_imports_a_gpu_library(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, moebench.reports.report as report, moebench.reports.terminal\n"
        "report.Report([]).write(pathlib.Path(sys.argv[1]))\n"
        "found = {'torch', 'triton', 'cupy', 'moebench.kernels', 'moebench.suites', 'moebench.autotune'} "
        "& set(sys.modules)\n"
        "sys.exit(', '.join(found) or 0)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "r.html"], check=True)


def test_the_page_holds_questions_answers_failures_machine_and_problems(
    sweep: list[Record], page: tuple[str, _Outline]
) -> None:
    _, outline = page
    for record in sweep:
        assert record.point.question in outline.text
        assert record.reason in outline.text
    for text in ("NVIDIA H100 80GB HBM3", "0123abc", "run.jsonl:3: not a record", "scatter is fastest at all 6 points"):
        assert text in outline.text


def test_bits_are_shown_beside_the_reason_why_there_is_no_time(make: Make, tmp_path: Path) -> None:
    found = Invariance(alone=Sameness(guaranteed=False, differs="token 3", distance=1e-7))
    record = make("a", status=Status.disturbed, reason="others ran").model_copy(update={"invariance": found})
    _, outline = _html([record], tmp_path)
    assert "others ran" in outline.text
    assert "token 3 (rounding, 1e-07)" in outline.text


def test_the_page_needs_nothing_from_outside(page: tuple[str, _Outline]) -> None:
    html, outline = page
    assert {tag for tag, _ in outline.tags} & {"img", "iframe", "object", "image"} == set()
    assert [attributes for tag, attributes in outline.tags if tag == "link"] == [{"rel": "icon", "href": "data:,"}]
    for tag, attributes in outline.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name != "style", "the policy of the page refuses it"
            if name in ("href", "src", "xlink:href") and tag != "link":
                assert value is not None
                assert value.startswith("#")
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []


def test_anchors_and_ids_of_a_page_are_unique_and_lead_somewhere(page: tuple[str, _Outline]) -> None:
    _, outline = page
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in outline.tags:
        for name in ("href", "xlink:href"):
            target = attributes.get(name)
            if target and target != "data:,":
                assert target[1:] in ids


def test_a_long_table_is_folded_behind_a_summary_and_a_short_one_is_not(make: Make, tmp_path: Path) -> None:
    records = [make(kernel, x=float(x), ms=1.0 + x) for x in range(1, 1 + SUMMARISED // 2) for kernel in ("a", "b")]
    _, short = _html(records, tmp_path)
    assert "details" not in dict(short.tags)
    _, long = _html([*records, make("c", x=99.0)], tmp_path)
    assert "details" in dict(long.tags)
    assert "not run" in long.text


def test_pages_say_the_sizes_of_every_place(make: Make, tmp_path: Path) -> None:
    report = Report([make(x=1024.0, axis="tokens T")])
    _, outline = _html([make(x=1024.0, axis="tokens T")], tmp_path)
    assert "TDFEK" in outline.text
    assert "1\u202f0242\u202f0481\u202f024648" in outline.text
    assert "| T=1024, D=2048, F=1024, E=64, K=8 |" in _read(report, tmp_path / "r.md")


def _read(report: Report, path: Path) -> str:
    return report.write(path).read_text(encoding="utf-8")


def test_the_fastest_is_marked_in_words(make: Make, tmp_path: Path) -> None:
    _, outline = _html([make("a", ms=1.0), make("b", ms=2.0)], tmp_path)
    assert re.search(r"a\s+fastest", outline.text)
    text = Report([make("a", ms=1.0), make("b", ms=2.0)]).write(tmp_path / "r.md").read_text(encoding="utf-8")
    assert "| a | fastest |" in text


def test_machines_are_named_where_there_are_several(make: Make, cpu: Environment, tmp_path: Path) -> None:
    _, outline = _html([make("a"), make("a", environment=cpu)], tmp_path)
    assert "tokens on NVIDIA H100 80GB HBM3 (1)" in outline.text
    assert "tokens on AMD EPYC 9R14 (2)" in outline.text


def test_plots_are_drawn_once_for_all_formats(
    suites: dict[str, list[Record]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Section] = []

    def noted(section: Section, _: object) -> list[Drawing]:
        drawn.append(section)
        return []

    monkeypatch.setattr("moebench.reports.plots.parallel_drawing.drawings", noted)
    report = Report(suites["capacity"])
    for suffix in (".html", ".md", ".html"):
        report.write(tmp_path / f"r{suffix}")
    assert len(drawn) == len(report.sections)


def test_no_records_is_a_page_that_says_so(tmp_path: Path) -> None:
    _, outline = _html([], tmp_path, ("run.jsonl:1: cut off",))
    assert "No records." in outline.text
    assert "run.jsonl:1: cut off" in outline.text
    assert "No records." in Report([]).write(tmp_path / "r.md").read_text(encoding="utf-8")


def test_the_same_records_give_the_same_page(suites: dict[str, list[Record]], tmp_path: Path) -> None:
    assert _html(suites["models"], tmp_path)[0] == _html(suites["models"], tmp_path)[0]


def _evil(make: Make) -> list[Record]:
    names = {"suite": EVIL, "question": EVIL, "axis": EVIL, "series": EVIL, "baseline": EVIL}
    problem = {"dtype": EVIL, "load": EVIL}
    return [
        make(EVIL, x=EVIL, problem=problem, config={EVIL: EVIL}, **names),
        make("b", x=EVIL, problem=problem, status=Status.crashed, reason=EVIL, **names),
        make("a", x=EVIL, problem=problem, **names),
        *(make("c", x=x, time=EVIL, suite="../../up") for x in (2.0, 4.0)),
    ]


def test_text_of_records_is_never_markup_in_html(make: Make, tmp_path: Path) -> None:
    html, outline = _html(_evil(make), tmp_path, (EVIL,))
    assert "<script>alert" not in html
    assert "img" not in {tag for tag, _ in outline.tags}
    assert [attributes for tag, attributes in outline.tags if tag == "script" and "type" not in attributes] == [{}]
    assert "<script>alert(1)</script>" in outline.text, "it is shown as text"
    assert "{{ 7*7 }}" in outline.text


def test_text_of_records_is_never_a_path(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    report = Report(_evil(make), [EVIL])
    report.write(folder / "report one.md")
    report.write(folder / "report.html")
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file())
    drawn = re.compile(r"in/report one_plots/[12]-(along-axis|roofline)\.svg")
    assert [file for file in files if not drawn.fullmatch(file)] == ["in/report one.md", "in/report.html"]
    text = (folder / "report one.md").read_text(encoding="utf-8")
    assert "](report%20one_plots/1-along-axis.svg)" in text


def test_text_of_records_is_never_markup_in_markdown(make: Make, tmp_path: Path) -> None:
    text = Report(_evil(make), [EVIL]).write(tmp_path / "r.md").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<img" not in text
    assert "http://" not in text
    assert "`" not in text
    assert re.findall(r"^# .*", text, flags=re.MULTILINE) == ["# moebench report"]


def test_every_line_of_a_markdown_table_has_the_cells_of_its_head(markdown: Path) -> None:
    text = markdown.read_text(encoding="utf-8")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 8
    for lines in tables:
        assert re.fullmatch(r"\|(:?-+:?\|)+", lines[1])
        assert {line.count("|") for line in lines} == {lines[0].count("|")}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("grouped_gemm", "grouped_gemm"),
        ("_x_", "&#95;x&#95;"),
        ("a|b", "a&#124;b"),
        ("<b>", "&#60;b&#62;"),
        ("https://x", "https&#58;&#47;&#47;x"),
        ("www.x.org", "www&#46;x.org"),
        ("mail@x", "mail&#64;x"),
        ("95 % × 2", "95 % × 2"),
    ],
)
def test_markdown_is_escaped_where_it_would_mean_something(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_plots_lie_beside_the_markdown_and_are_linked(markdown: Path) -> None:
    links = re.findall(r"!\[.*?\]\((.*?)\)", markdown.read_text(encoding="utf-8"))
    assert sum(link.endswith("-along-axis.svg") for link in links) == 7, "the main plot of a section once, in time"
    assert len(links) == len(set(links)) > 7
    for link in links:
        assert (markdown.parent / link).read_text(encoding="utf-8").count("<svg") == 1
