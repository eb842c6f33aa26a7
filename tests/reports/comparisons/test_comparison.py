"""A comparison judges where conditions are equal, shows ratios alone where they are not, and loses no point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from moebench.reports.comparisons.compared_samples import compared_drawings, samples_frame
from moebench.reports.comparisons.comparison import ComparedSide, SideBySide
from moebench.reports.comparisons.comparison_page import ComparisonPage
from moebench.reports.report import ReportError
from moebench.results.record import Environment, Record, Status
from moebench.results.regression.verdicts import Outcome

Make = Callable[..., Record]


def compared(old: Sequence[Record], new: Sequence[Record]) -> SideBySide:
    return SideBySide(ComparedSide(name="old", records=old), ComparedSide(name="new", records=new))


def processes(make: Make, ms: float, **changes: object) -> list[Record]:
    return [make("padded", ms=ms * (1 + at / 1e4), time=f"2026-03-01T10:00:{at:02}Z", **changes) for at in range(8)]


def test_the_same_conditions_give_verdicts(make: Make) -> None:
    found = compared(processes(make, 1.0), processes(make, 1.2))
    (point,) = found.points
    assert point.verdict is Outcome.slower
    assert point.ratio is not None
    assert point.ratio.value == pytest.approx(1.2, rel=0.01)
    assert found.sentence == "Of 1 point: 1 slower."
    assert found.remedy is None


def test_another_machine_gives_ratios_and_no_verdict(make: Make, cpu: Environment) -> None:
    found = compared([make("padded", ms=1.0)], [make("padded", ms=3.0, environment=cpu)])
    (point,) = found.points
    assert (point.verdict, point.standing) == (None, "not judged")
    assert point.ratio is not None
    assert point.ratio.value == pytest.approx(3, rel=0.01)
    assert "device: NVIDIA H100 80GB HBM3 / AMD EPYC 9R14" in found.differences[0]
    assert "no verdict is given" in found.sentence


def test_points_of_one_side_alone_are_shown(make: Make) -> None:
    found = compared([make("padded"), make("loop")], [make("padded"), make("scatter")])
    assert {point.key.kernel: point.standing for point in found.points} == {
        "padded": "unclear",
        "loop": "missing",
        "scatter": "new",
    }
    assert found.remedy is not None


def test_broken_points_have_no_ratio(make: Make) -> None:
    found = compared([make("padded")], [make("padded", status=Status.wrong, reason="off")])
    (point,) = found.points
    assert (point.verdict, point.new, point.ratio) == (Outcome.broken, None, None)


def test_suites_have_a_mean_ratio_and_both_winners(make: Make) -> None:
    old = [make("padded", ms=1.0), make("loop", ms=2.0)]
    new = [make("padded", ms=4.0), make("loop", ms=2.0)]
    (suite,) = compared(old, new).suites
    assert suite.ratio is not None
    assert suite.ratio.value == pytest.approx(2, rel=0.01)  # √(4 · 1)
    assert suite.old_winner is not None
    assert suite.new_winner is not None
    assert (suite.old_winner.kernel, suite.new_winner.kernel) == ("padded", "loop")


def test_nothing_in_common_is_said(make: Make) -> None:
    assert "no point in common" in compared([make("padded", suite="a")], [make("padded", suite="b")]).sentence


def test_pages_show_foreign_text_as_text(make: Make, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>|`x`"
    found = compared([make(hostile, ms=1.0)], [make(hostile, ms=1.1)])
    html, md = (ComparisonPage(found).write(tmp_path / f"page{suffix}").read_text() for suffix in (".html", ".md"))
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "<script>" not in md.replace("-k '<script>alert(1)</script>|`x`'", "")


def test_samples_of_points_with_both_sides_are_drawn_the_worst_first(make: Make, tmp_path: Path) -> None:
    old = [*processes(make, 1.0), make("loop", ms=1.0), make("scatter", ms=1.0)]
    new = [*processes(make, 1.3), make("loop", ms=1.01)]
    found = compared(old, new)
    frame = samples_frame(found)
    assert list(frame["kernel"].unique()) == ["padded", "loop"]  # slower before unclear
    assert len(frame) == sum(len(one.timing.samples_ns) for one in [*old[:-1], *new] if one.timing)
    (drawing,) = compared_drawings(found)
    assert "slower, the new median is +30.0 %" in drawing.alt
    page = ComparisonPage(found).write(tmp_path / "page.md")
    assert "![" in page.read_text()
    assert (tmp_path / "page_plots/distributions.svg").exists()


def test_another_suffix_is_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"page\.csv: a comparison is a page"):
        ComparisonPage(compared([make()], [make()])).write(tmp_path / "page.csv")


def test_plain_data_has_every_point(make: Make) -> None:
    plain = compared([make("padded", ms=1.0)], [make("padded", ms=1.1)]).plain()
    assert isinstance(plain["points"], list)
    (point,) = plain["points"]
    assert isinstance(point, dict)
    assert point["kernel"] == "padded"
    assert point["verdict"] == "unclear"


def test_points_under_other_conditions_are_counted_as_not_judged(make: Make, cpu: Environment) -> None:
    elsewhere = make("loop", ms=1.0, environment=cpu)
    found = compared([*processes(make, 1.0), make("loop", ms=1.0)], [*processes(make, 1.2), elsewhere])
    assert found.sentence == "Of 2 points: 1 slower, 1 not judged."


def test_the_command_on_a_page_is_one_harmless_line(make: Make, tmp_path: Path) -> None:
    hostile = "x\n```\n<script>alert(1)</script>\x1b\u202e"
    found = compared([make(hostile, ms=1.0)], [make(hostile, ms=1.1)])
    assert found.remedy is not None
    assert found.remedy.command.isprintable()
    text = ComparisonPage(found).write(tmp_path / "page.md").read_text()
    assert text.count("\n```") == 2, "the command is fenced"
    assert not set("\x1b\u202e") & set(text)
