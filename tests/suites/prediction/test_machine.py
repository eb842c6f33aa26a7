"""Machine descriptions: those that are shipped, files written by hand, and the errors of bad files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine_descriptions import cluster, figure

from moebench.common.files import NotUtf8
from moebench.common.names import UnknownName
from moebench.suites.prediction.machine import InvalidMachine, MachineDescription, machine, names, to_toml

# Peaks of data sheets: bytes/s of a rank inside its node and across, of a node across, of its memory, FLOP/s in
# bfloat16, bytes.
SHEETS = {
    "dgx-a100": (300e9, 25e9, 200e9, 2.039e12, 312e12, 80e9),
    "dgx-h100": (450e9, 50e9, 400e9, 3.35e12, 989e12, 80e9),
    "dgx-h200": (450e9, 50e9, 400e9, 4.8e12, 989e12, 141e9),
    "gb200-nvl72": (900e9, 50e9, 3600e9, 8e12, 2500e12, 186e9),
    "plain-25gbe": (32e9, 3.125e9, 3.125e9, 864e9, 119.5e12, 48e9),
}


@pytest.mark.parametrize("name", SHEETS)
def test_shipped_machines_are_what_they_are_called(name: str) -> None:
    found = machine(name)
    assert found.name == name
    assert found.node is not None
    assert found.across is not None
    assert found.across.node_bytes_per_s is not None
    assert (
        found.node.bytes_per_s.value,
        found.across.bytes_per_s.value,
        found.across.node_bytes_per_s.value,
        found.memory.bytes_per_s.value,
        found.products["bfloat16"].flops_per_s.value,
        found.memory.bytes.value,
    ) == SHEETS[name]


def test_every_shipped_machine_is_held_to_its_data_sheet() -> None:
    assert names() == sorted(SHEETS)


@pytest.mark.parametrize("name", SHEETS)
def test_what_is_written_is_read(name: str, tmp_path: Path) -> None:
    written = machine(name)
    (tmp_path / "m.toml").write_text(to_toml(written))
    assert machine(str(tmp_path / "m.toml")) == written


@given(name=st.text(min_size=1), value=st.floats(min_value=0, allow_infinity=False, allow_nan=False))
def test_any_text_and_number_is_written_so_that_it_is_read(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: float
) -> None:
    written = cluster().model_copy(update={"name": name, "layer_s": figure(value)})
    path = tmp_path_factory.mktemp("machine") / "m.toml"
    path.write_text(to_toml(written), encoding="utf-8")
    assert machine(str(path)) == written


def test_rates_are_what_is_reached_of_the_peak() -> None:
    found = machine("dgx-h100")
    assert found.link("across").rate.rank == pytest.approx(0.9 * 50e9)
    assert found.link("across").rate.node == pytest.approx(0.9 * 400e9)
    assert found.product_rate("bfloat16").rank == pytest.approx(0.55 * 989e12)


@pytest.mark.parametrize(
    ("word", "remedy"),
    [("dgx-h10", "did you mean dgx-h100"), ("DGX-H100", "did you mean dgx-h100"), ("cray", "there are dgx-a100")],
)
def test_an_unknown_name_is_answered_with_the_nearest(word: str, remedy: str) -> None:
    with pytest.raises(UnknownName, match=remedy):
        machine(word)


TOML = to_toml(cluster())


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("name = ", "is not TOML"),
        ("", "name: Field required"),
        (TOML.replace("ranks_per_node = 2", "ranks_per_node = 0"), "ranks_per_node: Input should be greater than 0"),
        (TOML.replace("bytes_per_s = { value = 1000000.0", "bytes_per_s = { value = 0.0"), "give a positive number"),
        (TOML.replace("reached = { value = 1.0", "reached = { value = 1.2"), "give a share, at most 1"),
        (TOML.replace('source = "a test"', 'source = ""'), "source: String should have at least 1 character"),
        (TOML.replace(', source = "a test"', ""), "source: Field required"),
        (TOML.replace("latency_s = { value = 0.0", "latency_s = { value = -1.0"), "node.latency_s.value"),
        (TOML.replace("latency_s = { value = 0.0", "latency_s = { value = inf"), "node.latency_s.value"),
        (TOML.replace("[products.float32]", "[products.float64]"), "products.float64"),
        (TOML + "\n[extra]\nkey = 1\n", "extra: Extra inputs are not permitted"),
    ],
)
def test_a_broken_file_says_which_key_is_wrong(text: str, wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(InvalidMachine) as caught:
        machine(str(path))
    assert str(caught.value).startswith(str(path))
    assert wrong in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    with pytest.raises(InvalidMachine, match=r"m\.toml: .*; give a file that `moebench calibrate` wrote"):
        machine(str(path))
    path.write_text(TOML, encoding="utf-16")
    with pytest.raises(NotUtf8, match=r"m\.toml is text in UTF-16: save it as UTF-8"):
        machine(str(path))
    path.write_text(TOML, encoding="utf-8-sig")
    assert machine(str(path)) == cluster()


def test_links_that_were_not_there_are_asked_for_in_vain() -> None:
    alone: MachineDescription = cluster().model_copy(update={"across": None})
    with pytest.raises(InvalidMachine, match="has no links across nodes: give at most 2 ranks"):
        alone.link("across")
    with pytest.raises(InvalidMachine, match="has no products of bfloat16: give one of float32"):
        alone.product_rate("bfloat16")
