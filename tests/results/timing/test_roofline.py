"""The machine's rates: from the fastest try, measured once, and never lowered by a doubt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat

import pytest
import torch

from moebench.results.timing import roofline as machine_module
from moebench.results.timing.disturbance import Disturbance, Span, Watch, host_clock
from moebench.results.timing.roofline import MIN_TRIES, MachineRates

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matmuls, copies and sums that take microseconds."""
    monkeypatch.setattr(machine_module, "MATMULS", {"cpu": ((8, 16, 32), (4, 4, 4))})
    monkeypatch.setattr(machine_module, "MEMORY_BYTES", {"cpu": 4096})
    monkeypatch.setattr(machine_module, "ROW_WORDS", 64)
    monkeypatch.setattr(machine_module, "PROBE_S", 1e-4)


def script(machine: MachineRates, monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
    """Let measurements take these seconds in turn: of each round both matmuls, the copy, one sum and sums of rows."""
    turns = iter(seconds)
    monkeypatch.setattr(machine, "fastest", lambda _: next(turns))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_real_rates_are_positive(dtype: torch.dtype) -> None:
    roofline = MachineRates(CPU).roofline(dtype)
    assert 0 < roofline.flops_per_s < 1e18
    assert 0 < roofline.bytes_per_s < 1e15


def test_rates_are_flops_of_the_fastest_shape_and_bytes_read_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = MachineRates(CPU)
    script(machine, monkeypatch, [2.0, 4.0, 0.5, 8.0, 9.0])
    roofline = machine.roofline(torch.float32)
    assert roofline.flops_per_s == 2 * 8 * 16 * 32 / 2.0
    assert roofline.bytes_per_s == machine.memory.copy == 2 * 4096 / 0.5
    assert machine.memory.read == 4096 / 8.0


@pytest.mark.parametrize("sums", [(0.2, 0.4), (0.4, 0.2)], ids=["of all", "of rows"])
def test_reading_alone_counts_where_it_is_faster_than_a_copy(
    monkeypatch: pytest.MonkeyPatch, sums: tuple[float, float]
) -> None:
    """A kernel that only reads may be as fast as that, and is not limited by what a copy reaches."""
    machine = MachineRates(CPU)
    script(machine, monkeypatch, [2.0, 4.0, 0.5, *sums])
    assert machine.roofline(torch.float32).bytes_per_s == machine.memory.read == 4096 / 0.2
    assert machine.memory.copy == 2 * 4096 / 0.5


def test_every_byte_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sums are of all words: what reads less would be faster than the memory."""
    read: list[float] = []

    def noted(call: Callable[[], torch.Tensor]) -> float:
        read.append(float(call().sum()))
        return 1.0

    machine = MachineRates(CPU)
    monkeypatch.setattr(machine, "fastest", noted)
    assert machine._memory_rates().read == 4096
    assert read == [1024.0, 1024.0, 1024.0]  # what was copied, and both sums


def test_a_dtype_is_measured_once_and_memory_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = MachineRates(CPU)
    script(machine, monkeypatch, [2.0, 4.0, 0.5, 9.0, 9.0, 1.0, 4.0, 2.0, 4.0])
    first = machine.roofline(torch.float32)
    assert machine.roofline(torch.float32) is first
    assert machine.roofline(torch.float16).flops_per_s == 2 * first.flops_per_s
    assert machine.roofline(torch.float32) is first


def test_a_wider_dtype_counts_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both matmuls in float16, both in float32, and the copy: no implementation has to multiply in the slow one."""
    machine = MachineRates(CPU)
    script(machine, monkeypatch, [8.0, 9.0, 2.0, 4.0, 0.5, 9.0, 9.0])
    assert machine.roofline(torch.float16).flops_per_s == 2 * 8 * 16 * 32 / 2.0


def test_a_doubt_keeps_the_better_of_each_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first doubt finds slower products and faster copies, the second the reverse, the third faster reads."""
    machine = MachineRates(CPU)
    rounds = [
        [2.0, 9.0, 0.5, 9.0, 9.0],
        [4.0, 9.0, 0.25, 9.0, 9.0],
        [1.0, 9.0, 1.0, 9.0, 9.0],
        [9.0, 9.0, 9.0, 0.1, 9.0],
    ]
    script(machine, monkeypatch, [seconds for one in rounds for seconds in one])
    first = machine.roofline(torch.float32)
    second, third = machine.doubt(torch.float32), machine.doubt(torch.float32)
    assert (second.flops_per_s, second.bytes_per_s) == (first.flops_per_s, 2 * first.bytes_per_s)
    assert (third.flops_per_s, third.bytes_per_s) == (2 * first.flops_per_s, 2 * first.bytes_per_s)
    assert machine.roofline(torch.float32) == third
    fourth = machine.doubt(torch.float32)
    assert (fourth.flops_per_s, fourth.bytes_per_s) == (third.flops_per_s, 4096 / 0.1)


class ScriptedWatch(Watch):
    """Watch of calls that take seconds of a list, some of them disturbed."""

    def __init__(self, seconds: Iterable[float], disturbed: Iterable[bool] = repeat(False)) -> None:
        super().__init__()
        self._spans = zip(seconds, disturbed, strict=False)

    def stop(self) -> Span:
        seconds, disturbed = next(self._spans)
        return Span(round(seconds * 1e9), Disturbance.others if disturbed else Disturbance.none)


@pytest.mark.parametrize(
    ("seconds", "tries"),
    [([9.0, 1.0, 3.0], MIN_TRIES), ([4e-5, 2e-5, 3e-5, 2e-5], 4)],
    ids=["long", "short"],
)
def test_the_fastest_try_counts_after_a_call_that_is_not_timed(seconds: list[float], tries: int) -> None:
    """At least three tries, and as many as fill the time."""
    calls: list[None] = []
    call: Callable[[], None] = lambda: calls.append(None)  # noqa: E731
    machine = MachineRates(CPU, ScriptedWatch([*seconds, *[1e-9] * 9]))
    assert machine.fastest(call) == min(seconds)
    assert len(calls) == 1 + tries
    assert not machine.disturbed


@pytest.mark.parametrize(("quiet", "disturbed"), [(MIN_TRIES, False), (MIN_TRIES - 1, True)])
def test_disturbed_tries_do_not_count_as_tries_and_rates_say_so_where_all_were(quiet: int, disturbed: bool) -> None:
    """A disturbed try may be the fastest all the same. After some seconds of them no further one is waited for."""
    script = [True] * 4 + [False] * quiet + [True] * 99
    machine = MachineRates(CPU, ScriptedWatch([0.01, *[0.04] * 99], script))
    assert machine.fastest(lambda: None) == 0.01
    assert machine.disturbed is disturbed


def test_rates_that_others_disturbed_are_measured_again_when_they_are_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disturbed = [True, False]

    def probe(_: object) -> float:
        machine.disturbed |= disturbed[0]
        return 1.0

    machine = MachineRates(CPU)
    monkeypatch.setattr(machine, "fastest", probe)
    assert machine.roofline(torch.float32).disturbed
    disturbed.pop(0)
    assert machine.roofline(torch.float32).disturbed is False
    monkeypatch.setattr(machine, "fastest", lambda _: pytest.fail("measured"))
    assert machine.roofline(torch.float32).disturbed is False


def test_a_try_on_a_gpu_hides_the_launch_and_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enqueuing takes no time, waiting 10 us once a try, each call 700 us: the rate is off by less than 0.3 %."""
    now, enqueued = [0.0], [0.0]

    def synchronize(_: torch.device) -> None:
        now[0] += enqueued[0] + 10e-6
        enqueued[0] = 0.0

    def call() -> None:
        enqueued[0] += 700e-6

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(host_clock, "read", lambda: (round(now[0] * 1e9),) * 2)
    assert MachineRates(torch.device("cuda")).fastest(call) == pytest.approx(700e-6, rel=3e-3)


def test_without_products_of_float8_the_faster_of_the_wider_ones_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both matmuls in bfloat16, both in float32, and the copy."""
    machine = MachineRates(CPU)
    script(machine, monkeypatch, [4.0, 9.0, 2.0, 9.0, 0.5, 9.0, 9.0])
    assert machine.roofline(torch.float8_e4m3fn).flops_per_s == 2 * 8 * 16 * 32 / 2.0


def test_products_of_float8_are_measured_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU torch has slow ones, which serve to see that the call is right."""
    monkeypatch.setattr(machine_module, "MATMULS", {"cpu": ((16, 32, 16),)})
    monkeypatch.setattr(machine_module, "multiplies_float8", lambda _: True)
    assert 0 < MachineRates(CPU).roofline(torch.float8_e4m3fn).flops_per_s < 1e18
