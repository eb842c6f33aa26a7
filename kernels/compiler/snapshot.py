"""Figures on file: what the machine code of the default configurations was when somebody last accepted it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path

from ..config import Config
from .machine_code import Figures
from .survey import CompileCase, Outcome


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The configuration of a case, and its figures by launch."""

    config: Config
    figures: Mapping[str, Figures]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Accepted figures by the key of the case, and the version of the Triton that compiled it."""

    triton: str
    cases: Mapping[str, Accepted]

    def complaints(self, outcome: Outcome) -> Iterator[str]:
        """What got worse in a case, each in one sentence; also a launch or a case that is here or there only."""
        key = case_key(outcome.case)
        if outcome.error:
            yield f"{key}: does not compile: {outcome.error}"
            return
        accepted = self.cases.get(key)
        if accepted is None:
            yield f"{key}: is not in the snapshot"
            return
        told = [*_differences(accepted.figures, outcome.figures)]
        if told and accepted.config != outcome.case.config:
            told.append(f"the default configuration is another: {_changes(accepted.config, outcome.case.config)}")
        yield from (f"{key}: {words}" for words in told)


def case_key(case: CompileCase) -> str:
    """A case as the snapshot names it."""
    return f"{case.target} {case.kernel}: {case.title}"


def worse(before: Figures, after: Figures) -> Iterator[str]:
    """What got worse: more registers, spills or shared memory, lower occupancy, a kind of instruction gone."""
    for name in ("registers", "spill_bytes", "shared_bytes"):
        old, new = getattr(before, name), getattr(after, name)
        if new > old:
            yield f"{name} {old} -> {new}"
    if sum(after.spills.values()) > sum(before.spills.values()):
        yield f"instructions that spill {sum(before.spills.values())} -> {sum(after.spills.values())}"
    if after.occupancy < before.occupancy:
        yield f"occupancy {before.occupancy} -> {after.occupancy}"
    gone = sorted({*before.tensor_core, *before.bulk_copies} - {*after.tensor_core, *after.bulk_copies})
    if gone:
        yield f"no {' and no '.join(gone)} any more"


def _differences(before: Mapping[str, Figures], after: Mapping[str, Figures]) -> Iterator[str]:
    for name in before.keys() - after.keys():
        yield f"{name}: is in the snapshot only"
    for name, figures in after.items():
        if name in before:
            yield from (f"{name}: {words}" for words in worse(before[name], figures))
        else:
            yield f"{name}: is not in the snapshot"


def _changes(before: Config, after: Config) -> str:
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return ", ".join(f"{name} {before.get(name)} -> {after.get(name)}" for name in names)


def read(path: Path) -> Snapshot:
    """The snapshot in a file that `write` wrote."""
    held = json.loads(path.read_text(encoding="utf-8"))
    cases = {
        key: Accepted(
            config=case["config"], figures={name: Figures(**found) for name, found in case["launches"].items()}
        )
        for key, case in held["cases"].items()
    }
    return Snapshot(triton=held["triton"], cases=cases)


def write(outcomes: Iterable[Outcome], path: Path) -> None:
    """Put figures on file as JSON, one line a launch, so that a change of one is a change of one line."""
    blocks = []
    for outcome in outcomes:
        lines = [f"    {json.dumps(name)}: {json.dumps(_said(found))}" for name, found in outcome.figures.items()]
        key, config = json.dumps(case_key(outcome.case)), json.dumps(dict(outcome.case.config))
        body = ",\n".join(lines)
        blocks.append(f' {key}: {{\n   "config": {config},\n   "launches": {{\n{body}\n   }}\n }}')
    text = ",\n".join(blocks)
    path.write_text(f'{{\n"triton": {json.dumps(version("triton"))},\n"cases": {{\n{text}\n}}\n}}\n', encoding="utf-8")


def _said(figures: Figures) -> dict[str, object]:
    """The fields of figures, less the optional ones that are nothing."""
    kept = {entry.name for entry in fields(figures) if _required(entry) or getattr(figures, entry.name)}
    return {name: value for name, value in asdict(figures).items() if name in kept}


def _required(entry: Field[object]) -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING
