"""Rules for competitors: computed from the kernels, and every exception has a kernel and a reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest

from moebench.execution.workers.worker import DeviceType
from moebench.kernels.catalog import KERNELS
from moebench.kernels.kernel import Kernel
from moebench.suites import competitors
from moebench.suites.competitors import CompetitorRule, Group
from moebench.suites.suite import SUITES, SuiteForm

LOOP = type(KERNELS.load("loop"))


class New(LOOP):  # type: ignore[valid-type,misc]  # a class that is loaded by name
    """Implementation that no suite names."""

    name = "new"


class NewDispatcher(New):
    between_ranks = True
    drops = True


class NewOnGpus(New):
    devices = ("cuda",)


class Catalog:
    """Catalog of all kernels and one more."""

    def __init__(self, more: Kernel) -> None:
        self._more = more

    def names(self) -> list[str]:
        return [*KERNELS.names(), "new"]

    def load(self, name: str) -> Kernel:
        return self._more if name == "new" else KERNELS.load(name)


def rules() -> Iterator[tuple[str, CompetitorRule]]:
    for name in SUITES.names():
        suite = SUITES.load(name)
        for form in (suite.small, suite.reduced, suite.full):
            yield from ((name, rule) for rule in _rules(form)) if form else ()


def _rules(form: SuiteForm) -> Iterator[CompetitorRule]:
    yield form.competitors
    yield from (place.competitors for place in form.places if place.competitors)


@pytest.mark.parametrize(
    ("kernel", "device", "groups"),
    [
        (New(), "cpu", {"dropless"}),
        (New(), "cuda", {"dropless"}),
        (NewDispatcher(), "cpu", {"between ranks"}),
        (NewOnGpus(), "cpu", set()),
        (NewOnGpus(), "cuda", {"dropless"}),
    ],
)
def test_a_new_implementation_competes_by_what_it_says_of_itself(
    kernel: Kernel, device: DeviceType, groups: set[Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(competitors, "KERNELS", Catalog(kernel))
    taking = {group for group in get_args(Group) if "new" in CompetitorRule(groups=(group,)).kernels(device)}
    assert taking == groups
    left_out = CompetitorRule(groups=get_args(Group), leave_out={"new": "it is slow"})
    assert "new" not in left_out.kernels(device)


def test_what_is_left_out_is_a_kernel_that_would_compete_and_has_a_reason() -> None:
    for name, rule in rules():
        without = CompetitorRule(groups=rule.groups)
        assert set(rule.leave_out) <= {*without.kernels("cpu"), *without.kernels("cuda")}, name
        assert all(rule.leave_out.values()), name


def test_every_kernel_belongs_to_a_group() -> None:
    everyone = CompetitorRule(groups=get_args(Group))
    assert {*everyone.kernels("cpu"), *everyone.kernels("cuda")} == set(KERNELS.names())
