"""A plugin of pytest whose one suite has a kernel that works, one that fails and one that is not installed."""

from __future__ import annotations

from types import SimpleNamespace

import faulty

from moebench.execution.trial.task import Budget
from moebench.kernels.problem import Problem
from moebench.suites import suite
from moebench.suites.suite import Suite, SuiteForm, SuitePoint

PLACE = SuitePoint(series="tiny", x=1.0, problem=Problem(T=16, D=32, F=48, E=4, K=2))
FORM = SuiteForm(baseline="loop", kernels=("loop", faulty.Name("Raises"), "megablocks"), places=(PLACE,))
SUITE = Suite(question="Do they?", axis="x", small=FORM, full=FORM)

suite.BUDGETS["small"] = Budget(seconds=0.1)
suite.SUITES = SimpleNamespace(load={"faulty": SUITE}.__getitem__)  # type: ignore[assignment]  # the fault injected
