"""Two nodes of two ranks with a link between them: counted bytes cross it, and two hops win on a slow one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from shaped_network import network
from torchrun_launcher import torchrun

SCRIPT = Path(__file__).parents[2] / "support" / "dispatcher_calls.py"
NODE = [["--nnodes", "2", "--nproc-per-node", "2", "--master-port", "29500", "--node-rank", node] for node in "01"]


def found(tmp_path: Path, bits_per_s: float, calls: int, fields: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the measurements of each rank for each dispatcher."""
    with network(2, bits_per_s) as machines, ExitStack() as stack:
        master: list[str | Path] = ["--master-addr", machines[0].address, SCRIPT, str(calls), json.dumps(fields)]
        here, there = [
            stack.enter_context(torchrun(tmp_path / f"node {number}", [*NODE[number], *master], machine.inside))
            for number, machine in enumerate(machines)
        ]
        said = here.wait()
        assert there.wait() is not None
    line = next((line for line in said.splitlines() if line.startswith("found ")), None)
    assert line is not None, said
    ranks: list[dict[str, Any]] = json.loads(line.removeprefix("found "))
    return ranks


@pytest.mark.slow
def test_what_is_noted_for_other_nodes_crosses_the_link(tmp_path: Path) -> None:
    """On a fast link an interface counts frames of up to 64 KiB with one header: 66 bytes of Ethernet, IP and TCP."""
    ranks = found(tmp_path, 4e9, 20, {"T": 512, "D": 512, "F": 16, "E": 16, "K": 4})
    for name in ranks[0]:
        for node in (ranks[:2], ranks[2:]):
            noted = sum(rank[name]["noted"] for rank in node)
            sent = node[0][name]["sent"]
            assert noted > 1e6
            assert sent == pytest.approx(noted, rel=0.03), name


@pytest.mark.slow
def test_in_two_hops_small_messages_cross_a_slow_link_faster(tmp_path: Path) -> None:
    """Each message has its headers and its latency; two hops need half as many messages (Tutel's 2DH)."""
    ranks = found(tmp_path, 1e6, 20, {"T": 8, "D": 16, "F": 16, "E": 16, "K": 4})
    assert ranks[0]["hierarchical"]["ms"] < ranks[0]["alltoall"]["ms"]
