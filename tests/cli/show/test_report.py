"""`moebench report`: prices and comparisons on the command line, and refusals in one line with the remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from records import TIMING, record
from typer.testing import CliRunner, Result

from moebench.cli.main import app
from moebench.results.record import Record, Status

COMPARED = ((), ("new.jsonl", "--compare"))


def report(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def write(path: Path, *records: Record) -> Path:
    path.write_text("".join(f"{made.model_dump_json()}\n" for made in records))
    return path


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    slow = TIMING.model_copy(update={"samples_ns": [1.1 * sample for sample in TIMING.samples_ns]})
    return write(tmp_path / "old.jsonl", record(1)), write(tmp_path / "new.jsonl", record(1, timing=slow))


def test_two_files_are_compared_on_both_pages(sides: tuple[Path, Path]) -> None:
    answer = report(*sides, "--compare")
    assert answer.exit_code == 0
    folder = sides[0].parent
    assert (folder / "old-against-new.html").exists()
    assert (folder / "old-against-new.md").exists()
    assert "Of 1 point: 1 unclear." in answer.output
    assert "unclear is settled by" in answer.output


def test_a_comparison_is_json_for_machines(sides: tuple[Path, Path]) -> None:
    answer = report(*sides, "--compare", "--json")
    (point,) = json.loads(answer.stdout)["points"]
    assert point["ratio"][0] == pytest.approx(1.1)
    assert sorted(path.name for path in sides[0].parent.iterdir()) == ["new.jsonl", "old.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["old.jsonl", "--compare"], "--compare takes two files, the old one first; 1 given"),
        (["old.jsonl", "new.jsonl", "new.jsonl", "--compare"], "takes two files, the old one first; 3 given"),
        (["old.jsonl", "none.jsonl", "--compare"], "none.jsonl: No such file"),
        (["old.jsonl", "new.jsonl", "--compare", "-o", "page.csv"], "page.csv: a comparison is a page"),
        (["old.jsonl", "new.jsonl", "--compare", "-o", "old.jsonl"], "old.jsonl is what is read"),
        (["old.jsonl", "--price", "nan"], "'nan' is no price"),
        (["old.jsonl", "--price", "-1"], "'-1' is no price"),
        (["old.jsonl", "new.jsonl", "--compare", "--price", "2"], "--price 2: a comparison has no costs: leave it out"),
        (["x" * 300], "File name too long"),
        (["x" * 300, "old.jsonl", "--compare", "-o", "page.md"], "too long; give a file that `moebench run` wrote"),
        (["old.jsonl", "-o", "page.pdf"], "page.pdf: give a name that ends in"),
        *((["old.jsonl", *more, "-o", place], f"{place} is a folder") for more in COMPARED for place in (".", "/")),
        *((["old.jsonl", *more, "-o", f"{'x' * 300}.md"], "too long: give another --output") for more in COMPARED),
        *((["old.jsonl", *more, "-o", "new.jsonl/x.md"], "which is no folder: give another") for more in COMPARED),
        (["old.jsonl", "--price", "0"], "'0' is no price"),
    ],
)
def test_refusals_name_the_value_and_keep_the_files(
    sides: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    folder = sides[0].parent
    monkeypatch.chdir(folder)
    before = sides[0].read_text()
    answer = report(*arguments)
    assert answer.exit_code == 2
    assert said in " ".join(answer.output.split())
    assert sides[0].read_text() == before
    assert sorted(path.name for path in folder.iterdir()) == ["new.jsonl", "old.jsonl"]


def test_a_price_tells_what_a_million_tokens_cost(sides: tuple[Path, Path]) -> None:
    page = sides[0].parent / "page.md"
    assert report(sides[0], "--price", "2.5", "-o", page).exit_code == 0
    assert "cost of 10⁶ tokens" in page.read_text()
    assert report(sides[0], "-o", page).exit_code == 0
    assert "| cost of 10⁶ tokens" not in page.read_text()


EVIL = "\x1b[31m\x9b\u202e<script>alert(1)</script>\x00|`x`"
ENVIRONMENT_TEXTS = ("device", "os", "python", "torch", "triton", "driver", "cuda", "moebench")


@pytest.mark.parametrize("more", [(), ("--compare",)], ids=["report", "comparison"])
@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_every_text_of_a_record_is_harmless_on_a_page(tmp_path: Path, more: tuple[str, ...], suffix: str) -> None:
    one = record(1, key=EVIL, kernel=EVIL, family=EVIL, config={EVIL: EVIL}, commit=EVIL, source=EVIL, time=EVIL)
    point = one.point.model_copy(update=dict.fromkeys(("suite", "question", "axis", "series", "baseline"), EVIL))
    hostile = one.model_copy(
        update={
            "point": point.model_copy(update={"model": EVIL, "x": EVIL}),
            "problem": {"T": 1, "load": EVIL, "router": EVIL, EVIL: EVIL},
            "environment": one.environment.model_copy(update=dict.fromkeys(ENVIRONMENT_TEXTS, EVIL)),
        }
    )
    failed = hostile.model_copy(update={"status": Status.crashed, "reason": EVIL, "timing": None})
    files = [write(tmp_path / f"{name}.jsonl", hostile, failed) for name in ("a", "b")]
    page = tmp_path / f"page{suffix}"
    answer = report(*files, *more, "-o", page)
    assert answer.exit_code == 0, answer.output
    text = page.read_text()
    assert not [letter for letter in "\x1b\x9b\u202e\x00" if letter in text or letter in answer.output]
    if suffix == ".html":
        assert "<script>alert" not in text


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    files = []
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        files.append(write(tmp_path / name / "run.jsonl", record(1)))
    page = tmp_path / "page.html"
    assert report(*files, "--compare", "-o", page).exit_code == 0
    assert f"<title>{files[0]} against {files[1]}</title>" in page.read_text()
