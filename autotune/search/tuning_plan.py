"""The plan of a tuning run, and the budgets that it has by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ...kernels.config import Config
from ...kernels.problem import Problem

# Trials at a batch size: a share of the space, within bounds (docs/tuning.md says what they are worth).
SHARE = 0.1
LEAST_TRIALS, MOST_TRIALS = 16, 24
# Timed seconds of a finalist: fewer on a GPU, whose clock is less noisy.
QUOTED_S = {"cpu": 1.0, "cuda": 0.3}
# Seconds of silence after which a candidate counts as hanging. A call on a CPU takes seconds. On a GPU it takes
# milliseconds and the code is compiled before; where it is not, compiling a training step takes some seconds.
HANG_S = {"cpu": 60.0, "cuda": 20.0}


def trials_for(configurations: int) -> int:
    """Return the number of trials at a batch size for a space of so many configurations."""
    return min(max(LEAST_TRIALS, round(SHARE * configurations)), MOST_TRIALS)


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """The plan of a tuning run: a kernel by name, and one problem for each batch size under the load to tune for.

    The choice is compared under the ``loads`` too; with ``robust`` each of them is searched. ``held_out`` are batch
    sizes that stay out of the table, so that its look-up can be compared with a search there. A search first tries the
    ``starts`` of its batch size. ``trials`` and ``seconds`` bound the search for one problem; ``quoted_s`` are the
    timed seconds of each finalist. A candidate that is silent for ``hang_s`` counts as hanging.
    """

    kernel: str
    source: str
    problems: tuple[Problem, ...]
    strategy: str
    trials: int
    seconds: float
    quoted_s: float
    hang_s: float
    seed: int = 0
    loads: tuple[str, ...] = ()
    held_out: tuple[Problem, ...] = ()
    starts: Mapping[int, Sequence[Config]] = field(default_factory=dict)
    robust: bool = False
    cache: Literal["cold", "hot"] = "cold"

    @property
    def searched(self) -> list[Problem]:
        """All problems that are searched."""
        robust = [problem.replace(load=load) for load in self.loads for problem in self.problems] if self.robust else []
        return [*self.problems, *self.held_out, *robust]
