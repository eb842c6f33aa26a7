"""The store keeps every finished record, whatever happens to the run or to the file."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import record, records

from moebench.common.files import NotUtf8
from moebench.results.record import Memory, Record, Roofline, Work
from moebench.results.record.store import Loaded, Store, StoreError, load, load_all


def write(path: Path, *found: Record) -> None:
    with Store(path) as store:
        for one in found:
            store.append(one)


def xs(loaded: Loaded) -> list[float | str]:
    return [one.point.x for one in loaded.records]


@given(found=st.lists(records(), max_size=3))
def test_what_is_appended_is_loaded(tmp_path_factory: pytest.TempPathFactory, found: list[Record]) -> None:
    """Draw any text, line separators of Unicode included."""
    path = tmp_path_factory.mktemp("store") / "records.jsonl"
    write(path, *found)
    loaded = load(path)
    assert repr(loaded.records) == repr(found)
    assert loaded.problems == []


def test_a_record_is_on_the_disk_when_append_returns(tmp_path: Path) -> None:
    with Store(tmp_path / "records.jsonl") as store:
        for x in range(3):
            store.append(record(x))
            assert xs(load(store.path)) == list(range(x + 1))


def test_a_new_file_is_made_with_its_folders_and_is_empty(tmp_path: Path) -> None:
    with Store(tmp_path / "new" / "folder" / "records.jsonl") as store:
        assert store.loaded == Loaded([], [])
    assert load(store.path) == Loaded([], [])


def test_a_finished_file_is_continued_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write(path, record(1), record(2))
    with Store(path) as store:
        assert xs(store.loaded) == [1, 2]
        store.append(record(3))
    assert (xs(load(path)), load(path).problems) == ([1, 2, 3], [])


@pytest.mark.parametrize("left", [1, 30, -2, -1], ids=["one byte", "some", "the last brace", "all but the newline"])
def test_a_line_cut_off_is_reported_and_the_next_record_starts_on_its_own(tmp_path: Path, left: int) -> None:
    path = tmp_path / "records.jsonl"
    write(path, record(1), record(2))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:left])
    whole = left == -1
    assert xs(load(path)) == ([1, 2] if whole else [1])
    with Store(path) as store:
        assert xs(store.loaded) == xs(load(path))
        store.append(record(3))
    loaded = load(path)
    assert xs(loaded) == ([1, 2, 3] if whole else [1, 3])
    assert len(loaded.problems) == (0 if whole else 1)
    assert all(problem.startswith(f"{path}:2: not a record (") for problem in loaded.problems)


def test_a_file_of_another_kind_is_one_problem_and_not_one_for_each_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("a\nb\nc\n")
    (problem,) = load(path).problems
    assert problem.startswith(f"{path}:1: not a record (")
    assert problem.endswith("; the line is left out (and 2 more)")


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"null", b"not JSON", b"\xff\xfe\x00", b"[" * 10_000, record(9).model_dump_json()[:-9].encode()],
    ids=["blank", "empty", "null", "text", "bytes", "nested", "cut"],
)
def test_a_bad_line_in_the_middle_is_named_and_the_rest_is_kept(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "records.jsonl"
    write(path, record(1), record(2))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + line + b"\n" + second)
    loaded = load(path)
    assert xs(loaded) == [1, 2]
    (problem,) = loaded.problems
    assert problem.startswith(f"{path}:2: not a record (")
    assert problem.endswith("; the line is left out")


def test_a_record_of_a_later_moebench_names_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    text = record(1).model_dump_json().replace('"schema_version":2', '"schema_version":3,"invented":[]')
    path.write_text(text + "\n")
    assert load(path).problems == [f"{path}:1: schema 3, this moebench reads schemas 1 to 2; the line is left out"]


def test_several_files_are_read_in_order(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("b.jsonl", "a.jsonl")]
    for x, path in enumerate(paths):
        write(path, record(x))
        path.write_text(path.read_text() + "junk\n")
    loaded = load_all(paths)
    assert xs(loaded) == [0, 1]
    assert [problem.partition(": ")[0] for problem in loaded.problems] == [f"{path}:2" for path in paths]


def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"missing\.jsonl: No such file or directory; give a file that"):
        load(tmp_path / "missing.jsonl")


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with Store(path) as store:
        with pytest.raises(StoreError, match="another run is writing it"), Store(path):
            pytest.fail("both have it")
        store.append(record(1))
    write(path, record(2))
    assert xs(load(path)) == [1, 2]


def test_the_file_is_free_again_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with pytest.raises(ZeroDivisionError), Store(path):
        _ = 1 / 0
    write(path, record(1))


@pytest.mark.parametrize("place", ["file/records.jsonl", "folder"])
def test_a_place_that_cannot_be_written_is_named_each_time(tmp_path: Path, place: str) -> None:
    """Under a file, and a folder itself; the second time it is not taken for another run's."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for store in [Store(tmp_path / place) for _ in range(2)]:
        with pytest.raises(StoreError, match="give an --output that can be written") as caught, store:
            pytest.fail("it was opened")
        assert str(tmp_path / place) in str(caught.value)


def test_a_full_disk_is_an_error_and_costs_one_record(tmp_path: Path) -> None:
    """Under a limit of the file's size, which the system enforces like a disk that takes no more."""
    path = tmp_path / "records.jsonl"
    line = len(record(1).model_dump_json(exclude_none=True)) + 1
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (line + line // 2, before[1]))
        with Store(path) as store:
            store.append(record(1))
            for _ in range(2):
                with pytest.raises(StoreError, match=r"records\.jsonl: .*; make room and run it again"):
                    store.append(record(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    write(path, record(3))
    loaded = load(path)
    assert xs(loaded) == [1, 3]
    assert [problem.partition(": ")[0] for problem in loaded.problems] == [f"{path}:2"]


SWEEP = dedent("""
    import itertools, sys
    from pathlib import Path
    from moebench.results.record import Record
    from moebench.results.record.store import Store

    path, model = Path(sys.argv[1]), Record.model_validate_json(sys.argv[2])
    with Store(path) as store:
        for x in itertools.count(len(store.loaded.records)):
            store.append(model.model_copy(update={"point": model.point.model_copy(update={"x": x})}))
            print(x, flush=True)
""")


def test_a_sweep_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Killed five times while it appends as fast as it can, and continued each time."""
    path = tmp_path / "records.jsonl"
    for moment in (0.0, 0.004, 0.009, 0.013, 0.02):
        command = [sys.executable, "-c", SWEEP, str(path), record().model_dump_json()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sweep:
            assert sweep.stdout is not None
            said = [int(sweep.stdout.readline())]
            time.sleep(moment)
            sweep.kill()
            said += [int(line) for line in sweep.stdout]
        assert sweep.returncode == -signal.SIGKILL
        loaded = load(path)
        assert xs(loaded) == list(range(len(loaded.records)))
        assert len(loaded.records) - 1 in (said[-1], said[-1] + 1), "what is said to be written is there"


def test_a_mark_before_the_first_line_and_other_line_ends_lose_nothing(tmp_path: Path) -> None:
    """Editors put the mark there; `git` and some shells write the line ends of Windows."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(record(x).model_dump_json().encode() + b"\r\n" for x in range(3)))
    assert load(path) == Loaded([record(x) for x in range(3)], [])
    with Store(path) as store:
        store.append(record(3))
    assert load(path).records == [record(x) for x in range(4)]


def test_text_in_another_encoding_is_refused_once_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes((record(1).model_dump_json() + "\n").encode("utf-16"))
    with pytest.raises(NotUtf8, match=r"r\.jsonl is text in UTF-16: save it as UTF-8"):
        load(path)


def test_a_field_of_a_later_moebench_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(record(1).model_dump_json().replace('"kernel":', '"shiny":1,"kernel":'))
    assert load(path).problems == [
        f"{path}:1: the field shiny is of a newer moebench: install that one to read it; the line is left out"
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("work.useful_flops", 10**400),
        ("work.useful_flops", -1),
        ("memory.peak", 10**40),
        ("problem.T", 10**400),
        ("problem.T", [1]),
        ("problem.T", {"T": 1}),
        ("point.x", 1e308),
        ("timing.samples_ns", [5e-324]),
        ("timing.samples_ns", [1e308]),
        ("timing.throttled", -(10**30)),
        ("roofline.flops_per_s", 5e-324),
    ],
)
def test_a_value_that_no_report_could_draw_costs_its_line_alone(tmp_path: Path, field: str, value: object) -> None:
    work = Work(useful_flops=1, executed_flops=1, ideal_bytes=1, routed_rows=1, kept_rows=1)
    whole = record(1, work=work, memory=Memory(peak=1, saved=1), roofline=Roofline(flops_per_s=1.0, bytes_per_s=1.0))
    bad = json.loads(whole.model_dump_json())
    part, name = field.split(".")
    assert name in bad[part]
    bad[part][name] = value
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(bad) + "\n" + record(2).model_dump_json() + "\n")
    found = load(path)
    assert found.records == [record(2)]
    (problem,) = found.problems
    assert name in problem


def test_a_device_without_line_ends_is_refused() -> None:
    with pytest.raises(StoreError, match="/dev/zero has a line of more than 64 MiB; give a file that"):
        load(Path("/dev/zero"))


def test_what_is_wrong_with_a_line_is_said_in_words_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(record(1).model_dump_json().replace('"status":"passed"', '"status":"crashed"'))
    (problem,) = load(path).problems
    assert "not a record (status is crashed, but there are samples); the line is left out" in problem


@pytest.mark.parametrize(("sample", "named"), [("NaN", "nan"), ("-1.0", "-1.0"), ("0.0", "0.0"), ("Infinity", "inf")])
def test_a_sample_that_is_no_time_is_named(tmp_path: Path, sample: str, named: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(record(1).model_dump_json().replace("[3.0,", f"[{sample},"))
    (problem,) = load(path).problems
    assert f"timing.samples_ns.0 = {named}: " in problem
