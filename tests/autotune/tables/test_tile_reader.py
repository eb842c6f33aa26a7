"""Files of tuned tiles are read as data, and everything that is wrong with them is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moebench.autotune.tables.engine import ENGINES, Engine
from moebench.autotune.tables.serving_file import ServingError, ServingFile, TileFileName
from moebench.autotune.tables.tile_reader import LARGEST_FILE

VLLM, SGLANG = ENGINES.load("vllm"), ENGINES.load("sglang")
TILES = dict(
    zip(
        ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M", "num_warps", "num_stages"),
        (16, 64, 128, 1, 4, 3),
        strict=True,
    )
)
PLAIN = "E=8,N=7168,device_name=NVIDIA_H200.json"

powers = st.sampled_from([16, 32, 64, 128, 256])
tiles = st.fixed_dictionaries(
    {"BLOCK_SIZE_M": powers, "BLOCK_SIZE_N": powers, "BLOCK_SIZE_K": powers, "GROUP_SIZE_M": st.integers(1, 64)},
    optional={"num_warps": st.sampled_from([1, 2, 4, 8]), "num_stages": st.integers(1, 8), "USE_TMA": st.booleans()},
)


@settings(deadline=None)  # a write waits for the disk
@given(st.dictionaries(st.integers(1, 2**20), tiles, min_size=1), st.sampled_from([VLLM, SGLANG]))
def test_bodies_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, configs: dict[int, dict[str, int]], engine: Engine
) -> None:
    file = ServingFile(name=TileFileName.parse(PLAIN), configs=configs, triton="3.5.0" if engine is VLLM else None)
    path = put(tmp_path_factory.mktemp("tiles"), engine.body(file))
    assert engine.load(path) == file


def put(folder: Path, content: object, name: str = PLAIN) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is no JSON"),
        ("[]", "holds no JSON object"),
        ("[" * 100_000, "is no JSON"),
        ('{"1": NaN}', "NaN is no number"),
        ('{"1": ' + "9" * 5000 + "}", "is no JSON"),
        ({}, "has no tiles"),
        ({"1": 3}, "has no object of tiles"),
        ({"1": TILES | {"BLOCK_SIZE_M": 24}}, "BLOCK_SIZE_M = 24 is no power of two"),
        ({"1": TILES | {"num_warps": 3}}, "num_warps = 3 is no power of two"),
        ({"1": TILES | {"BLOCK_SIZE_M": "os.system"}}, "BLOCK_SIZE_M = os.system is no count"),
        ({"1": TILES | {"BLOCK_SIZE_M": 16.0}}, "BLOCK_SIZE_M = 16.0 is no count"),
        ({"1": TILES | {"BLOCK_SIZE_M": -16}}, "is no count"),
        ({"1": {"BLOCK_SIZE_M": 16}}, "has no BLOCK_SIZE_N"),
        ({"1": TILES, "note": "mine"}, "the key 'note' is no batch size"),
        ('{"1": {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_M": 32}}', "BLOCK_SIZE_M is in its tiles twice"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_with_a_body_is_said(content: object, why: str, tmp_path: Path) -> None:
    with pytest.raises(ServingError) as refused:
        VLLM.load(put(tmp_path, content))
    assert why in str(refused.value)
    assert len(str(refused.value)) < 500


def test_the_triton_version_is_a_key_of_vllm_only(tmp_path: Path) -> None:
    path = put(tmp_path, {"triton_version": "3.5.0", "1": TILES})
    assert VLLM.load(path).triton == "3.5.0"
    with pytest.raises(ServingError, match="the engine makes an int of it; take it out"):
        SGLANG.load(path)


def test_a_batch_size_that_is_there_twice_is_found_whatever_its_spelling(tmp_path: Path) -> None:
    other = json.dumps(TILES | {"num_stages": 4})
    path = put(tmp_path, f'{{"16": {json.dumps(TILES)}, "016": {other}}}')
    with pytest.raises(ServingError, match="M = 16: is in the file twice, with other tiles"):
        VLLM.load(path)
    same = put(tmp_path, f'{{"16": {json.dumps(TILES)}, "16": {json.dumps(TILES)}}}')
    _, findings = VLLM.read(same, same.name)
    assert [(finding.severity, finding.kind) for finding in findings] == [("warning", "duplicate")]


def test_an_argument_that_no_known_kernel_has_is_a_warning(tmp_path: Path) -> None:
    _, findings = VLLM.read(put(tmp_path, {"1": TILES | {"kpack": 2, "PLAN": 1}}), PLAIN)
    assert [finding.sentence.partition(" ")[0] for finding in findings] == ["PLAN"]
    assert findings[0].severity == "warning"


def test_files_too_long_or_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="is longer than"):
        VLLM.load(put(tmp_path, " " * (LARGEST_FILE + 1)))
    with pytest.raises(ServingError, match="No such file"):
        VLLM.load(tmp_path / "E=1,N=1,device_name=X.json")


def test_the_nearest_batch_is_looked_up_the_first_of_two(tmp_path: Path) -> None:
    file = VLLM.load(put(tmp_path, {"64": TILES, "16": TILES, "256": TILES}))
    assert [file.nearest(M) for M in (1, 39, 40, 41, 160, 161, 9999)] == [16, 16, 64, 64, 64, 256, 256]
