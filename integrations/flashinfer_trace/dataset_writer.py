"""Writer of a dataset: records become definitions, workloads with their real routes, solutions and traces in a folder.

The layout of the folder is that of `TraceSet` in flashinfer-ai/flashinfer-bench, commit 40e6ca7,
`flashinfer_bench/data/trace_set.py`. A workload is drawn again from the problem of its records, and kept only if its
routes have the balance that the records have.
"""

from __future__ import annotations

import json
import math
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from ...common.errors import UserError
from ...common.files import write_new_folder
from ...common.names import UnknownName
from ...kernels.catalog import KERNELS
from ...kernels.problem import InvalidProblem, Problem
from ...kernels.problem.balance.routing_statistics import max_over_mean
from ...kernels.problem.draw_routes import check_seed, draw_routes
from ...kernels.problem.routing import Routing
from ...kernels.unimportable import Unimportable
from ...results.record import Record
from .evaluation import evaluation_of
from .kernel_solution import author_of, solution_of
from .moe_definition import GATES, IDS, OP_TYPE, TOKENS, definition_name, definition_of, without_definition
from .tensor_file import tensor_file

CLOSE: Final = 1e-6  # of two balances that were computed from the same routes, in another order of sums
Object = dict[str, Any]


class NothingToExport(UserError):
    """Records of which none has a place in a dataset; the message gives the reasons."""


@dataclass
class Dataset:
    """A dataset in memory: objects by the name of their file, and lines by the name of theirs.

    ``left_out`` counts the records without a place, by the reason.
    """

    objects: dict[str, Object] = field(default_factory=dict)
    lines: dict[str, list[Object]] = field(default_factory=dict)
    tensors: dict[str, bytes] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def traces(self) -> int:
        """Number of records that are in it."""
        return sum(len(lines) for name, lines in self.lines.items() if name.startswith("traces/"))

    def count(self, folder: str) -> int:
        """Return the number of objects or lines in the files of a folder."""
        lines = sum(len(lines) for name, lines in self.lines.items() if name.startswith(f"{folder}/"))
        return lines + sum(name.startswith(f"{folder}/") for name in self.objects)

    def write(self, folder: Path) -> None:
        """Write all files into a folder that is missing or empty, all or none.

        Raises:
            UserError: as `write_new_folder`.
        """
        contents = {name: json.dumps(made, indent=2) + "\n" for name, made in self.objects.items()}
        contents |= {name: "".join(f"{json.dumps(line)}\n" for line in made) for name, made in self.lines.items()}
        write_new_folder(folder, {**contents, **self.tensors})


@dataclass(frozen=True)
class _Drawn:
    problem: Problem
    routing: Routing
    balance: float


def dataset_of(records: Sequence[Record]) -> Dataset:
    """Return the dataset of records, which may be of many suites and machines.

    Raises:
        NothingToExport: when no record has a place in it.
    """
    made = Dataset()
    drawn: dict[str, _Drawn | str] = {}
    ran_on = _hardware(records)
    for record in records:
        key = json.dumps(record.problem, sort_keys=True)
        if key not in drawn:
            drawn[key] = _drawn(record.problem)
        found = drawn[key]
        reason = found if isinstance(found, str) else _misfit(record, found)
        if isinstance(found, str) or reason:
            made.left_out[reason or ""] += 1
            continue
        _add(made, record, found, ran_on)
    if not made.traces:
        reasons = "; ".join(f"{count} of {reason}" for reason, count in made.left_out.most_common(3))
        raise NothingToExport(f"no record has a place in a dataset: {reasons or 'there are none'}")
    return made


def _drawn(fields: Object) -> _Drawn | str:
    """Return a problem with its routes of the first check, or why it has no workload."""
    try:
        problem = Problem(**fields)
    except (InvalidProblem, TypeError, ValueError) as error:
        return f"a problem that cannot be made here ({error!s:.120})"
    if reason := without_definition(problem):
        return reason
    routing = draw_routes(problem, seed=check_seed(problem), device=torch.device("cpu"))
    return _Drawn(problem, routing, max_over_mean(routing.counts_E()) if problem.T else 0.0)


def _misfit(record: Record, drawn: _Drawn) -> str | None:
    """Return None, or why a record is no evaluation of a kernel on the workload that was drawn for it."""
    try:
        kernel = KERNELS.load(record.kernel)
    except UnknownName:
        return f"the kernel {record.kernel}, which is not here"
    if isinstance(kernel, Unimportable):
        return f"the kernel {record.kernel}, which cannot be imported here"
    if not kernel.answers(drawn.problem):
        return f"the kernel {record.kernel}, which computes something else than the layer"
    if evaluation_of(record) is None:
        return f"status {record.status.value}, which is no evaluation"
    if record.balance and not math.isclose(record.balance.max_over_mean, drawn.balance, rel_tol=CLOSE, abs_tol=CLOSE):
        return "routes that can no longer be drawn: measure it again"
    return None


def _add(made: Dataset, record: Record, drawn: _Drawn, ran_on: dict[tuple[str, str], list[str]]) -> None:
    problem, routing = drawn.problem, drawn.routing
    name = definition_name(problem, routing.chosen)
    place = f"{OP_TYPE}/{name}"
    definition = made.objects.setdefault(f"definitions/{place}.json", definition_of(problem, routing.chosen))
    workload = _workload(problem, definition)
    blob = workload["inputs"][IDS]["path"]
    if blob not in made.tensors:
        made.tensors[blob] = tensor_file({IDS: routing.ids_TK.numpy(), GATES: routing.gates_TK.numpy()})
        made.lines.setdefault(f"workloads/{place}.jsonl", []).append(
            {"definition": name, "workload": workload, "solution": None, "evaluation": None}
        )
    hardware = ran_on[record.kernel, record.environment.device_type]
    solution = solution_of(problem, record.kernel, record.config, definition, hardware)
    author = author_of(record.kernel)
    made.objects[f"solutions/{author}/{place}/{solution['name']}.json"] = solution
    made.lines.setdefault(f"traces/{author}/{place}.jsonl", []).append(
        {
            "definition": name,
            "workload": workload,
            "solution": solution["name"],
            "evaluation": evaluation_of(record),
        }
    )


def _workload(problem: Problem, definition: Object) -> Object:
    """Return the workload of a problem, whose identity is that of its routes; all but these is drawn at random."""
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"moebench:{definition['name']}:{problem.key}")
    path = f"blob/workloads/{OP_TYPE}/{definition['name']}/{definition['name']}_{identity}.safetensors"
    stored = {name: {"type": "safetensors", "path": path, "tensor_key": name} for name in (IDS, GATES)}
    return {
        "uuid": str(identity),
        "axes": {TOKENS: problem.T},
        "inputs": {name: stored.get(name, {"type": "random"}) for name in definition["inputs"]},
    }


def _hardware(records: Sequence[Record]) -> dict[tuple[str, str], list[str]]:
    """Return the kind of device, and the devices, on which each kernel ran, by its name and the kind."""
    found: dict[tuple[str, str], set[str]] = {}
    for record in records:
        kind = record.environment.device_type
        found.setdefault((record.kernel, kind), set()).add(record.environment.device)
    return {(kernel, kind): [kind, *sorted(devices - {"", kind})] for (kernel, kind), devices in found.items()}
