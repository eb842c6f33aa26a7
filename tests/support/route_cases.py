"""Routes that are hard to order, and their order by a plain simulation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from moebench.kernels.triton.permutation import COMPACT, Blocked, Capacity, Layout, Order, Schedule, order


@dataclass(frozen=True, kw_only=True)
class Case:
    """Return the arguments of `order`, on the CPU."""

    ids_TK: Tensor
    experts: int
    layout: Layout = COMPACT
    blocks: tuple[int, ...] = (16,)
    limit: int | None = None
    service_N: Tensor | None = None

    def order(self, device: torch.device) -> tuple[Order, tuple[Schedule, ...]]:
        """Return the result of `order` on ``device``."""
        return order(
            self.ids_TK.to(device),
            experts=self.experts,
            layout=self.layout,
            blocks=self.blocks,
            limit=self.limit,
            service_N=None if self.service_N is None else self.service_N.to(device),
        )


def drawn(
    T: int, K: int, experts: int, *, low: int = -1, high: int | None = None, seed: int = 0, served: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Draw ids in [low, high), and a random service order."""
    generator = torch.Generator().manual_seed(seed)
    ids_TK = torch.randint(low, experts if high is None else high, (T, K), dtype=torch.int32, generator=generator)
    return ids_TK, torch.randperm(T * K, generator=generator).int() if served else None


def counted(*counts: int) -> Tensor:
    """Return ids (N, 1) in a fixed shuffled order, with ``counts[e]`` for expert e."""
    ids_N = torch.arange(len(counts), dtype=torch.int32).repeat_interleave(torch.tensor(counts))
    return ids_N[torch.randperm(len(ids_N), generator=torch.Generator().manual_seed(1))][:, None]


def awkward() -> dict[str, Case]:
    """Return the cases by name."""
    cases = {
        "no tokens": Case(ids_TK=torch.zeros(0, 2, dtype=torch.int32), experts=3),
        "no tokens, capacity": Case(
            ids_TK=torch.zeros(0, 2, dtype=torch.int32), experts=3, layout=Capacity(capacity=4)
        ),
        "one expert": Case(ids_TK=torch.zeros(50, 1, dtype=torch.int32), experts=1, layout=Blocked(block=16)),
        "no routes at all": Case(ids_TK=torch.full((20, 4), -1, dtype=torch.int32), experts=5, blocks=(1, 2, 3, 64)),
        "counts around a block": Case(
            ids_TK=counted(15, 0, 16, 17, 1, 0), experts=6, layout=Blocked(block=16), blocks=(16, 8, 1)
        ),
        "last experts empty": Case(ids_TK=counted(3, 4), experts=7, layout=Blocked(block=4), blocks=(4, 2)),
        "strided": Case(ids_TK=drawn(8, 20, 6)[0].T, experts=6),
        "hot, limited": Case(ids_TK=torch.full((500, 1), 2, dtype=torch.int32), experts=4, limit=33),
        "capacity below a limit": Case(
            ids_TK=drawn(30, 4, 3)[0], experts=3, layout=Capacity(capacity=7), limit=20, blocks=()
        ),
        "limit below a capacity": Case(ids_TK=drawn(30, 4, 3)[0], experts=3, layout=Capacity(capacity=9), limit=5),
        "limit that is no multiple of a block": Case(
            ids_TK=drawn(60, 4, 3)[0], experts=3, layout=Blocked(block=8), limit=13, blocks=(8, 16)
        ),
        "more routes than a warp's share": Case(ids_TK=drawn(900, 3, 60)[0], experts=60, blocks=(64, 16)),
    }
    for experts, K in ((3, 3), (60, 4), (129, 8), (129, 64)):
        ids_TK, service_N = drawn(37, K, experts, low=-3, high=experts + 3, served=True)
        cases[f"E {experts}, K {K}, ids out of range, served in another order"] = Case(
            ids_TK=ids_TK, experts=experts, layout=Blocked(block=8), limit=5, blocks=(8, 4), service_N=service_N
        )
    extremes = torch.tensor([[2**31 - 1, -(2**31)], [0, 1]], dtype=torch.int32)
    cases["ids at the ends of int32"] = Case(ids_TK=extremes, experts=2)
    return cases


def large() -> dict[str, Case]:
    """Return cases with so many experts that a kernel has shared memory for fewer placing warps."""
    wide, served_N = drawn(300, 4, 8192, served=True)
    long, _ = drawn(700, 1, 8192, high=3)
    return {
        "E 8192": Case(ids_TK=wide, experts=8192, layout=Blocked(block=16), blocks=(16,), service_N=served_N),
        "E 8192, several segments": Case(ids_TK=long, experts=8192, limit=200, blocks=(128,)),
        "E 4096": Case(ids_TK=drawn(2000, 1, 4096)[0], experts=4096, layout=Capacity(capacity=2)),
    }


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw any small problem of routes with any layout."""
    T, K, experts = draw(st.integers(0, 40)), draw(st.integers(1, 5)), draw(st.integers(1, 9))
    ids_TK, service_N = drawn(
        T,
        K,
        experts,
        low=draw(st.integers(-2, 0)),
        high=draw(st.integers(1, experts + 2)),
        seed=draw(st.integers(0, 10_000)),
        served=draw(st.booleans()),
    )
    return Case(
        ids_TK=ids_TK,
        experts=experts,
        layout=draw(
            st.one_of(
                st.builds(Blocked, block=st.integers(1, 20)),
                st.builds(Capacity, capacity=st.integers(1, 50)),
            )
        ),
        blocks=tuple(draw(st.lists(st.integers(1, 40), max_size=4))),
        limit=draw(st.none() | st.integers(1, 60)),
        service_N=service_N,
    )


def simulated(case: Case) -> dict[str, list[int]]:
    """Compute every tensor of the order and its schedules by queueing one route at a time, without unused ends."""
    ids = case.ids_TK.flatten().tolist()
    service = range(len(ids)) if case.service_N is None else case.service_N.tolist()
    layout = case.layout
    capacity = layout.capacity if isinstance(layout, Capacity) else len(ids)
    limit = min(capacity, len(ids) if case.limit is None else case.limit)
    queues: list[list[int]] = [[] for _ in range(case.experts)]
    for route in service:
        if 0 <= ids[route] < case.experts and len(queues[ids[route]]) < limit:
            queues[ids[route]].append(route)
    rows: list[int] = []
    found: dict[str, list[int]] = {"counts": [len(queue) for queue in queues], "base": []}
    for queue in queues:
        found["base"].append(len(rows))
        room = layout.capacity if isinstance(layout, Capacity) else -(-len(queue) // layout.block) * layout.block
        rows += queue + [-1] * (room - len(queue))
    found["routes"] = rows
    at = {route: row for row, route in enumerate(rows)}
    found["slots"] = [at.get(route, -1) for route in range(len(ids))]
    for number, block in enumerate(case.blocks):
        tiles = [(e, b) for e, queue in enumerate(queues) for b in range(-(-len(queue) // block))]
        found[f"experts of {number}"] = [e for e, _ in tiles]
        found[f"blocks of {number}"] = [b for _, b in tiles]
        found[f"first of {number}"] = [sum(e < other for e, _ in tiles) for other in range(case.experts + 1)]
    return found


def listed(found: tuple[Order, tuple[Schedule, ...]]) -> dict[str, list[int]]:
    """Return every tensor of the result of `order`, without unused ends."""
    routes, schedules = found
    lists = {
        "counts": routes.counts_E.tolist(),
        "base": routes.base_E.tolist(),
        "routes": routes.route_R.tolist(),
        "slots": routes.slot_N.tolist(),
    }
    for number, schedule in enumerate(schedules):
        lists[f"experts of {number}"] = schedule.expert_M.tolist()
        lists[f"blocks of {number}"] = schedule.block_M.tolist()
        lists[f"first of {number}"] = schedule.first_E.tolist()
    return lists
