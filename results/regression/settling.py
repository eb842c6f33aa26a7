"""Commands that would settle what a comparison of records left unclear."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..record import Record
from .verdicts import Outcome, Verdict, enough_processes

COMMIT: Final = re.compile(r"[0-9a-f]{7,40}")  # of a checkout without changes
SHOWN: Final = 12  # digits of a commit in a command


@dataclass(frozen=True)
class Remedy:
    """A command that would settle what is unclear, and a sentence on how to use it."""

    command: str
    use: str

    def __str__(self) -> str:
        return f"unclear is settled by `{self.command}`: {self.use}"


def settling(old: Sequence[Record], new: Sequence[Record], verdicts: Sequence[Verdict]) -> Remedy | None:
    """Return what would settle the unclear points, None where there are none.

    Two commits are measured against each other by the gate. Otherwise each side has to be measured again, in enough
    processes for each of the points. Points of tuning runs are left out: no suite has them.
    """
    tuned = {record.point.suite for record in (*old, *new) if record.point.stage}
    unclear = [one for one in verdicts if one.status is Outcome.unclear and one.key.suite not in tuned]
    if not unclear:
        return None
    suites = " ".join(shlex.quote(name) for name in dict.fromkeys(one.key.suite for one in unclear))
    kernels = shlex.quote(",".join(dict.fromkeys(one.key.kernel for one in unclear)))
    before, after = _commit(old), _commit(new)
    if before and after and before != after:
        return Remedy(
            f"moebench gate {suites} --base {before[:SHOWN]} -k {kernels}",
            f"with the options of the runs that are compared, in a checkout of {after[:SHOWN]}, it measures both in "
            "turn, in as many processes as it takes",
        )
    processes = enough_processes(sum(one.ratio is not None for one in verdicts))
    run = f"moebench run {suites} -k {kernels} -o new-$n.jsonl"
    return Remedy(
        f"for n in $(seq {processes}); do {run}; done; cat new-*.jsonl > new.jsonl",
        "with the options of the runs that are compared, for the old and for the new side, on an idle machine",
    )


def _commit(records: Sequence[Record]) -> str:
    """Return the one commit of all records, empty where there are several, or sources that no commit has."""
    commits = {record.commit for record in records}
    commit = commits.pop() if len(commits) == 1 else ""
    return commit if COMMIT.fullmatch(commit) else ""
