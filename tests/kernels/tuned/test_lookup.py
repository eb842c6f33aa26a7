"""Tuned tables answer inside their range and where they are valid, and other files in the folder do no harm."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import CONFIGS, CPU, PROBLEM, bucket, entry, environment, table

from moebench.common.names import UnknownName
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.kernel import Kernel
from moebench.kernels.module import built_layers
from moebench.kernels.module.moe_layer import MoELayer
from moebench.kernels.problem import Problem
from moebench.kernels.problem.trace import label, load_of
from moebench.kernels.problem.traces.trace_writer import write_ids
from moebench.kernels.tuned import lookup
from moebench.kernels.tuned.lookup import FOLDER, STALE, Found, NotCovered, answer, folder, look_up, read, tables
from moebench.kernels.tuned.tuned_table import InvalidTable, TableEntry, TunedTable

TOKENS = st.integers(1, 2**40)
TIMES = st.floats(1, 1e12)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty folder of tables."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.delenv(STALE, raising=False)
    lookup._read.cache_clear()
    built_layers.forget()
    yield tmp_path
    built_layers.forget()


def put(home: Path, one: TunedTable, name: str = "one.json") -> Path:
    path = home / name
    path.write_text(one.text(), encoding="utf-8")
    return path


def found(problem: Problem = PROBLEM, **options: Any) -> Found:
    looked_up = look_up(problem, "scatter", CPU, **options)
    assert isinstance(looked_up, Found), looked_up
    return looked_up


def refused(problem: Problem = PROBLEM, **options: Any) -> str:
    looked_up = look_up(problem, "scatter", CPU, **options)
    assert isinstance(looked_up, NotCovered), looked_up
    return looked_up.reason


def all_of_them(config: Config) -> Config:
    return config


def test_a_bucket_gives_what_it_chose(home: Path) -> None:
    put(home, table())
    assert found() == Found(config=CONFIGS[1], why="tuned at T = 64", seconds=5e-4)
    assert found(PROBLEM.replace(seed=3)) == found()


def test_between_buckets_the_fastest_of_both_by_interpolation(home: Path) -> None:
    """Configuration 2 was not measured at the lower end. The time at the geometric middle is the geometric mean."""
    put(home, table())
    between = found(PROBLEM.replace(T=128))
    assert between.config == CONFIGS[1]
    assert between.interpolated
    assert between.why == "between T = 64 and T = 256"
    assert between.seconds == pytest.approx((5e-4 * 3e-3) ** 0.5)


def test_outside_the_range_nothing_is_said_to_fit(home: Path) -> None:
    put(home, table())
    for T, rows in ((63, "31.5"), (257, "128.5"), (0, "0"), (10**9, "5e+08")):
        assert f"T = {T} ({rows} rows per expert) is outside the tuned T = 64 to 256" in refused(PROBLEM.replace(T=T))


@st.composite
def entries(draw: st.DrawFn) -> TableEntry:
    """Draw an entry in which every bucket has its own default, choice and gaps."""
    count = draw(st.integers(1, 4))
    buckets = []
    for T in sorted(draw(st.sets(TOKENS, min_size=1, max_size=5))):
        times: list[float | None] = [draw(st.none() | TIMES) for _ in range(count)]
        default, chosen = draw(st.integers(0, count - 1)), draw(st.integers(0, count - 1))
        times[default], times[chosen] = draw(TIMES), draw(TIMES)
        verdict = "tie" if chosen == default else "tuned"
        buckets.append(bucket(T, times, chosen, default=default, verdict=verdict))
    return entry(*buckets, configs=tuple({"tile": number} for number in range(count)))


OWN_DEFAULT: Config = {"the default": True}


@given(one=entries())
def test_at_a_bucket_it_is_always_its_choice_and_its_time(one: TableEntry) -> None:
    for there in one.buckets:
        at = answer(one, there.T, OWN_DEFAULT, all_of_them)
        assert isinstance(at, Found)
        assert at.config == one.configs[there.chosen]
        assert at.seconds == there.median_ns[there.chosen] / 1e9  # type: ignore[operator]  # what is chosen has a time
        assert not at.interpolated


@given(one=entries(), T=st.integers(0, 2**41))
def test_an_answer_is_a_candidate_inside_the_range_and_never_outside(one: TableEntry, T: int) -> None:
    looked_up = answer(one, T, OWN_DEFAULT, all_of_them)
    inside = one.buckets[0].T <= T <= one.buckets[-1].T
    if isinstance(looked_up, NotCovered):
        assert not inside or "measured at both" in looked_up.reason
        return
    assert inside
    if looked_up.interpolated:
        below = [there for there in one.buckets if there.T < T][-1]
        above = next(there for there in one.buckets if there.T > T)
        both = [n for n in range(len(one.configs)) if below.median_ns[n] and above.median_ns[n]]
        kept = below.verdict == above.verdict == "tie"
        assert looked_up.config == OWN_DEFAULT if kept else looked_up.config in [one.configs[n] for n in both]
        ends = [ns for there in (below, above) for ns in there.median_ns if ns]
        assert min(ends) * 0.999 <= looked_up.seconds * 1e9 <= max(ends) * 1.001


@given(times=st.lists(st.tuples(TIMES, TIMES), min_size=2, max_size=4), T=st.integers(65, 4095))
def test_between_buckets_that_disagree_nothing_is_faster(times: list[tuple[float, float]], T: int) -> None:
    low, high = zip(*times, strict=True)
    one = entry(bucket(64, low, 0, verdict="tuned"), bucket(4096, high, 1), configs=({"tile": 1},) * len(times))
    looked_up = answer(one, T, OWN_DEFAULT, all_of_them)
    assert isinstance(looked_up, Found)
    share = math.log(T / 64, 64)
    expected = min(below ** (1 - share) * above**share for below, above in times)
    assert looked_up.seconds * 1e9 == pytest.approx(expected, rel=1e-6)


def test_what_both_buckets_chose_is_chosen_between_them(home: Path) -> None:
    """The choice stays where another was a little faster, within the noise."""
    put(home, table(entry(bucket(64, [5, 4, 3.9], 1), bucket(256, [9, 8, 7.9], 1))))
    assert found(PROBLEM.replace(T=100)).config == CONFIGS[1]


def test_where_both_kept_their_default_the_kernel_s_own_is_kept(home: Path) -> None:
    """The defaults of the buckets may differ from the default between them."""
    tie: dict[str, Any] = {"verdict": "tie", "chosen": 1, "default": 1}
    put(home, table(entry(bucket(64, [5, 4, 3], **tie), bucket(256, [9, 8, 7], **tie))))
    kept = found(PROBLEM.replace(T=100))
    assert kept.config == KERNELS.load("scatter").space(PROBLEM, CPU)[0]
    assert kept.why == "between T = 64 and T = 256, where the default was kept"


def test_what_is_not_in_the_space_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket then has no answer, and between two the next fastest is taken. The result is the space's own object."""
    strange = (CONFIGS[0], {**CONFIGS[1], "tile": "/etc/passwd"}, CONFIGS[2])
    buckets = (bucket(64, [4, 1, 3]), bucket(256, [9, 8, 7]))
    put(home, table(entry(*buckets, configs=strange)))
    assert refused() == "the configuration chosen for T = 64 is not in the kernel's space"
    assert found(PROBLEM.replace(T=100)).config == CONFIGS[2]
    strange = ({**CONFIGS[0], "tile": 3}, {**CONFIGS[1], "tile": True}, {**CONFIGS[2], "more": "import os"})
    put(home, table(entry(*buckets, configs=strange)))
    assert "no configuration of the kernel's space" in refused(PROBLEM.replace(T=100))
    put(home, table(entry(configs=(CONFIGS[0], {**CONFIGS[1], "tile": 512.0}, {}))))
    assert type(found().config["tile"]) is int
    monkeypatch.setattr(
        type(KERNELS.load("scatter")),
        "valid",
        lambda _self, _problem, config, _device: config["order"] != "product",
    )
    put(home, table())
    assert "not in the kernel's space" in refused()


@pytest.mark.parametrize("name", ["D", "F", "E", "K", "gated", "activation", "bias", "dtype", "mode", "ranks"])
def test_another_shape_is_not_covered(home: Path, name: str) -> None:
    other = {"gated": False, "bias": True, "activation": "relu", "dtype": "bfloat16", "mode": "train", "K": 1}
    put(home, table())
    assert refused(PROBLEM.replace(**{name: other.get(name, 3)})) == "scatter is not tuned for this shape"


def test_the_router_does_not_matter_and_what_drops_does(home: Path) -> None:
    """Routers do not matter, because an implementation is given routes."""
    put(home, table())
    assert found(PROBLEM.replace(router="softmax_topk")) == found()
    for changes in ({"capacity_factor": 1.0}, {"drop": "gate_weight"}):
        assert "not tuned for this shape" in refused(PROBLEM.replace(**changes))


def test_the_load_must_be_the_same_unless_an_entry_is_robust(home: Path) -> None:
    skewed = PROBLEM.replace(load="zipf:1.2")
    put(home, table())
    assert refused(skewed) == "scatter is tuned for load uniform, not for zipf:1.2 and not robustly"
    robust = entry(bucket(64, [5, 4, 3]), loads=("hot", "uniform"))
    named = entry(bucket(64, [5, 4, 4.5]), loads=("hot", "zipf:1.2"))
    put(home, table(robust, entry()))
    assert found(skewed).config == CONFIGS[2], "robust, though for other loads"
    assert found().config == CONFIGS[1], "its own load comes before robust"
    put(home, table(robust, named))
    assert found(skewed).config == CONFIGS[1], "robust, and its load among them"


def test_with_nearest_the_most_similar_load_that_is_tuned_stands_for_another(home: Path) -> None:
    times = {"uniform": [5, 4, 6], "zipf:2": [5, 6, 4]}
    put(home, table(*(entry(bucket(64, list(one)), loads=(load,)) for load, one in times.items())))
    even, skewed = PROBLEM.replace(load="zipf:0.25"), PROBLEM.replace(load="zipf:1.5")
    assert "not for zipf:0.25" in refused(even)
    assert found(even, nearest=True).config == CONFIGS[1]
    assert found(even, nearest=True).why == "tuned at T = 64; for load uniform, the nearest that is tuned"
    assert found(skewed, nearest=True).config == CONFIGS[2]
    assert found(nearest=True) == found(), "the same load is the nearest"


def test_with_nearest_a_robust_entry_answers_for_each_of_its_loads(home: Path) -> None:
    own, robust = entry(bucket(64, [5, 4, 6])), entry(bucket(64, [5, 6, 4]), loads=("hot", "zipf:2"))
    put(home, table(own, robust))
    assert found(PROBLEM.replace(load="zipf:1.5"), nearest=True).config == CONFIGS[2]
    assert found(PROBLEM.replace(load="zipf:0.25"), nearest=True).config == CONFIGS[1]


def test_with_nearest_a_recorded_load_is_compared_where_its_file_lies_beside_the_table(home: Path) -> None:
    """One of another content, in another folder or away is not, and where nothing can be compared nothing is tuned."""
    skewed = PROBLEM.replace(load="zipf:1.5")
    recorded = home / "layer.npy"
    write_ids(recorded, [[0, 1]] * 9 + [[0, 2], [1, 3]])
    load = label(load_of(recorded))
    put(home, table(entry(bucket(64, [5, 4, 6])), entry(bucket(64, [5, 6, 4]), loads=(load,))))
    assert found(skewed, nearest=True).config == CONFIGS[2]
    assert load in found(skewed, nearest=True).why
    for path in (f"{home.parent}/layer.npy", "../layer.npy", "sub/layer.npy", ".", "layer"):
        other = load.replace("layer.npy", path)
        put(home, table(entry(bucket(64, [5, 6, 4]), loads=(other,))))
        assert f"tuned for load {other}, not for zipf:1.5" in refused(skewed, nearest=True)
    changed = f"{load.partition('#')[0]}#00000000"
    put(home, table(entry(bucket(64, [5, 6, 4]), loads=(changed,))))
    assert f"tuned for load {changed}, not for zipf:1.5" in refused(skewed, nearest=True)
    put(home, table(entry(bucket(64, [5, 6, 4]), loads=(load,))))
    recorded.unlink()
    assert f"tuned for load {load}, not for zipf:1.5" in refused(skewed, nearest=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "000000000000"}, "source: 000000000000 / "),
        ({"environment": environment(torch="1.13")}, "torch: 1.13 / "),
        ({"environment": environment(triton="2.0")}, "triton: 2.0 / "),
        ({"environment": environment(triton=None)}, "triton: None / "),
        ({"environment": environment(driver="580")}, "driver: 580 / None"),
        ({"environment": environment(device_type="cuda")}, "driver: unknown / unknown"),
    ],
)
def test_what_is_stale_is_said_and_used_only_when_asked_for(home: Path, changes: Any, words: str) -> None:
    put(home, table(**changes))
    assert words in refused()
    assert STALE in refused()
    assert found(stale=True).config == CONFIGS[1]
    assert f"tuned at T = 64; stale ({words}" in found(stale=True).why


def test_another_device_is_never_covered(home: Path) -> None:
    put(home, table(environment=environment(device="NVIDIA H100")))
    for stale in (True, False):
        assert "is tuned for 'NVIDIA H100', not for " in refused(stale=stale)


def test_facts_that_are_no_key_do_not_matter(home: Path) -> None:
    put(home, table(environment=environment(python="3.99", cores=1000, moebench="9")))
    assert found().why == "tuned at T = 64"


def test_the_newest_table_comes_first_and_the_others_fill_its_gaps(home: Path) -> None:
    new = table(entry(bucket(64, [5, 4, 3])), measured=("2027", "2027"))
    put(home, table(), "z.json")
    put(home, new, "b.json")
    put(home, table(entry(bucket(64, [1, 2, 3])), source="0" * 12, measured=("2028", "2028")), "a.json")
    assert found().config == CONFIGS[2]
    assert found(stale=True).config == CONFIGS[2], "what is valid comes before what is newer and stale"
    assert found(PROBLEM.replace(T=256)).config == CONFIGS[2]
    assert found(PROBLEM.replace(T=128)).why == "between T = 64 and T = 256"


def test_without_tables_nothing_is_covered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused() == "there is no tuned table of scatter"
    put(home, table(kernel="padded"))
    assert refused() == "there is no tuned table of scatter"
    for where in (home / "missing", home / "one.json", Path(os.devnull)):
        monkeypatch.setenv(FOLDER, str(where))
        assert tables() == []


def test_an_unknown_kernel_is_said_to_be_one(home: Path) -> None:
    put(home, table(kernel="scater"))
    with pytest.raises(UnknownName):
        look_up(PROBLEM, "scater", CPU)


JUNK: dict[str, bytes] = {
    "empty.json": b"",
    "cut.json": table().text().encode()[:-100],
    "foreign.json": b'{"triton_version": "3.6.0", "64": {"BLOCK_SIZE_M": 16}}',
    "future.json": table().text().replace('"moebench_table": 1', '"moebench_table": 2').encode(),
    "deep.json": b"[" * 200_000,
    "huge.json": b" " * (lookup.MAX_BYTES + 1),
    "binary.json": bytes(range(256)),
    "$(touch pwned) ; \x1b[31m.json": b"import os",
}


def test_what_is_no_table_is_named_once_and_the_rest_goes_on(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The folder holds files that are cut off, foreign, too new, deep, huge or binary, a pipe, and bad links."""
    for name, content in JUNK.items():
        (home / name).write_bytes(content)
    (home / "folder.json").mkdir()
    os.mkfifo(home / "pipe.json")
    (home / "link.json").symlink_to(home / "nowhere")
    (home / "endless.json").symlink_to("/dev/zero")
    (home / "notes.txt").write_bytes(b"no table, and no matter")
    put(home, table())
    before = sorted(path.name for path in home.iterdir())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert found().config == CONFIGS[1]
    messages = [record.getMessage() for record in caplog.records]
    names = [*JUNK, "folder.json", "pipe.json", "link.json", "endless.json"]
    assert len(messages) == len(names)
    assert all(message.isprintable() for message in messages)
    for name in names:
        assert any(repr(name).strip("'") in message for message in messages), name
    assert sorted(path.name for path in home.iterdir()) == before


def test_values_that_look_like_paths_or_code_do_nothing(home: Path) -> None:
    """Hostile words in any field create and open no file, and matching tables are still found."""
    evil = "../../../tmp/x; __import__('os').system('touch pwned')"
    origins = tuple(dataclasses.replace(origin, file=evil) for origin in table().origins)
    path = put(home, table(entry(configs=(CONFIGS[0], CONFIGS[1], {evil: evil})), origins=origins), "..;x.json")
    put(home, table(entry(loads=(evil, f"trace:{home}/missing")), kernel=evil), "b.json")
    assert found().config == CONFIGS[1]
    assert sorted(one.name for one in home.iterdir()) == [path.name, "b.json"]


def test_a_file_is_read_again_only_after_it_has_changed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def counted(path: Path) -> TunedTable:
        reads.append(path.name)
        return read(path)

    monkeypatch.setattr(lookup, "read", counted)
    path = put(home, table())
    for _ in range(3):
        found()
    assert reads == ["one.json"]
    put(home, table(), "two.json")
    found()
    assert reads == ["one.json", "two.json"]
    put(home, table(entry(bucket(64, [5, 4, 3]))))
    assert found().config == CONFIGS[2]
    path.unlink()
    (home / "two.json").unlink()
    assert "no tuned table" in refused()


def test_the_reason_why_a_file_is_no_table_can_be_asked(home: Path) -> None:
    with pytest.raises(InvalidTable, match="not a file"):
        read(home / "missing.json")
    (home / "large.json").write_bytes(b" " * (lookup.MAX_BYTES + 1))
    with pytest.raises(InvalidTable, match="larger than 8 MiB"):
        read(home / "large.json")


def test_tables_lie_where_users_keep_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert folder() == tmp_path
    monkeypatch.setenv(FOLDER, "")
    assert folder() == Path("/data/moebench/tuned")
    monkeypatch.setenv("XDG_DATA_HOME", "relative, which the standard says to ignore")
    assert folder() == Path("/home/a/.local/share/moebench/tuned")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert folder() == Path("/home/a/.local/share/moebench/tuned")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert folder() is None
    assert tables() == []


def test_a_layer_runs_as_it_is_tuned(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer is tuned with ``auto`` and by name, at a bucket and between two; by name it runs the default outside."""
    scatter = KERNELS.load("scatter")
    built: list[Config] = []
    build = type(scatter).build

    def watched(self: Kernel, problem: Problem, config: Config, device: torch.device) -> Any:
        built.append(config)
        return build(self, problem, config, device)

    monkeypatch.setattr(type(scatter), "build", watched)
    many = PROBLEM.replace(E=2, D=32, F=64, K=1)
    assert many.router != MoELayer(D=32, F=64, E=2).problem.router, "a layer knows no router"
    buckets = (bucket(600, [3, 2, 1]), bucket(900, [3, 2, 1]))
    put(home, table(entry(*buckets, shape=many.replace(T=0))))
    expected = []
    for dispatch in ("auto", "scatter"):
        module = MoELayer(D=32, F=64, E=2, dispatch=dispatch)
        outside = [] if dispatch == "auto" else [(901, CONFIGS[0])]  # there the cost model decides for auto
        for T, config in [(600, CONFIGS[2]), (700, CONFIGS[2]), *outside]:
            with torch.no_grad():
                y_TD = module(torch.randn(T, 32), torch.zeros(T, 1, dtype=torch.int64), torch.ones(T, 1))
            assert y_TD.shape == (T, 32)
            expected.append(config)
    assert built == expected
