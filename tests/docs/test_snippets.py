"""Every Python block that the documentation shows runs, and every TOML block is a suite."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pages import ROOT, Block, blocks

from moebench.suites.suite_file import read


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor", "ignore:`torch.jit")  # by torch.compile
@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_block_runs(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first line `# kernels/implementations/mine.py` says in which file of the package the block would be."""
    monkeypatch.chdir(ROOT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What torchrun would set, for a block that joins a group: one rank, alone.
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    place = re.match(r"# (\S+)\.py\n", block.text)
    module = ModuleType(f"moebench.{place[1].replace('/', '.')}" if place else f"docs.{block.page.stem}")
    module.__package__ = module.__name__.rpartition(".")[0]
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where dataclasses look it up
    exec(compile(block.text, str(block), "exec"), vars(module))  # noqa: S102 - the documentation is ours


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_block_is_a_suite(block: Block, tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(block.text)
    assert read(tmp_path / "suite.toml").small.places
