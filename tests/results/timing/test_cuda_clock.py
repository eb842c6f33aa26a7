"""The CUDA clocks, on a simulated device with its own queue and time, and where there is a GPU on that too."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from moebench.results.record import Clocks
from moebench.results.timing import cuda_clock
from moebench.results.timing.clock import MAX_COPIES, Clock, Flush
from moebench.results.timing.cuda_clock import (
    BLOCK_MS,
    MAX_BLOCK_MS,
    CannotCapture,
    ColdCudaClock,
    HotCudaClock,
    TorchCudaDevice,
)
from moebench.results.timing.nvml import NoTelemetry, connect

POWER_W = 500.0
TICK_MS = 90.0
READING_MS = 0.05
FLUSH_MS = 0.03
L2_BYTES = 1_000_000
WRITE_BACK_MS = 0.02  # what a whole L2 of dirty lines takes
RESULT_BYTES = 300_000  # what a call leaves in the L2, written


class WriteBackCache(TorchDispatchMode):
    """A cache that writes back late: the owners of its bytes, from the oldest, and whether they are written."""

    def __init__(self, size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._size = size
        self._lines: list[tuple[object, int, bool]] = []

    def touch(self, owner: object, size: int, *, written: bool) -> None:
        self._lines.append((owner, size, written))
        while (beyond := sum(size for _, size, _ in self._lines) - self._size) > 0:
            owner, size, written = self._lines.pop(0)
            if size > beyond:
                self._lines.insert(0, (owner, size - beyond, written))

    def held(self, owner: object) -> int:
        return sum(size for one, size, _ in self._lines if one == owner)

    @property
    def dirty(self) -> int:
        return sum(size for _, size, written in self._lines if written)

    def __torch_dispatch__(
        self,
        function: OpOverload[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for argument, tensor in zip(function._schema.arguments, args, strict=False):
            if isinstance(tensor, torch.Tensor):
                written = argument.alias_info is not None and argument.alias_info.is_write
                self.touch(tensor.untyped_storage()._cdata, tensor.nbytes, written=written)
        if isinstance(result, torch.Tensor) and function._schema.returns[0].alias_info is None:
            self.touch(result.untyped_storage()._cdata, result.nbytes, written=True)
        return result


class FakeEvent:
    """An event of a ``FakeDevice``; the first one recorded of a pair is the start."""

    def __init__(self, device: FakeDevice) -> None:
        self._device = device
        self._ms = math.inf

    def record(self) -> None:
        self._device.log.append("event")
        self._ms = max(self._device.host_ms, self._device.free_ms)

    def query(self) -> bool:
        return self._ms <= self._device.host_ms

    def elapsed_time(self, end: FakeEvent, /) -> float:
        assert end._ms <= self._device.host_ms, "read before the device was waited for"
        return end._ms - self._ms


class FakeDevice:
    """A host and a device that each have a time: work is enqueued by the one and done in order by the other."""

    l2_bytes = L2_BYTES

    def __init__(self) -> None:
        self.l2 = WriteBackCache(L2_BYTES)
        self.fill: Callable[[], object] = Flush(L2_BYTES, "cpu")
        self.log: list[str] = []
        self.other_rank = 0.0
        self.host_ms = 0.0
        self.free_ms = 0.0

    def enqueue(self, ms: float, launch_ms: float = 0.0) -> None:
        self.host_ms += launch_ms
        self.free_ms = max(self.host_ms, self.free_ms) + ms

    def flush(self) -> None:
        self.log.append("flush")
        self.enqueue(FLUSH_MS)
        with self.l2:
            self.fill()

    def block(self, ms: float) -> None:
        self.log.append(f"block {ms:g}")
        self.enqueue(ms)

    def event(self) -> FakeEvent:
        return FakeEvent(self)

    def synchronize(self) -> None:
        self.log.append("synchronize")
        self.host_ms = max(self.host_ms, self.free_ms)

    def slowest(self, value: float) -> float:
        return max(value, self.other_rank)

    def capture(self, calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
        self.log.append(f"capture {len(calls)}")

        def replay() -> object:
            self.log.append("replay")
            return [call() for call in calls][-1]

        return replay

    def work(self, kernels: int, launch_ms: float, kernel_ms: float, result_bytes: int = 0) -> Callable[[], object]:
        def call() -> None:
            self.log.append("call")
            self.enqueue(WRITE_BACK_MS * self.l2.dirty / L2_BYTES)
            self.l2.touch("inputs", L2_BYTES, written=False)
            for _ in range(kernels):
                self.enqueue(kernel_ms, launch_ms)
            self.l2.touch("result", result_bytes, written=True)

        return call


class FakeTelemetry:
    """A device that draws 500 W while its queue is worked off and counts its joules every 90 ms."""

    driver = None

    def __init__(self, device: FakeDevice, *reasons: str, counts: bool = True) -> None:
        self._device = device
        self._reasons = list(reasons)
        self._counts = counts

    def throttle_reasons(self) -> list[str]:
        return self._reasons

    def energy_j(self) -> float | None:
        self._device.host_ms += READING_MS
        if not self._counts:
            return None
        return POWER_W * (self._device.free_ms // TICK_MS * TICK_MS) / 1e3

    def state(self, energy_j: float | None) -> Clocks:
        return Clocks(
            sm_mhz=1980,
            memory_mhz=2619,
            power_w=POWER_W,
            temperature_c=50,
            throttle_reasons=self._reasons,
            energy_j=energy_j,
        )


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


def test_order_of_a_cold_sample(device: FakeDevice) -> None:
    """Flush, block, start, call, stop, wait: nothing waits between the flush and the start."""
    sample = ColdCudaClock(device, NoTelemetry("none")).prepare([device.work(3, 0.01, 0.2)])
    device.log.clear()
    taken = sample()
    assert device.log == ["flush", f"block {BLOCK_MS:g}", "event", "call", "event", "synchronize"]
    assert taken.ns == pytest.approx(0.6e6)
    assert not taken.throttled


def test_a_cold_sample_finds_nothing_of_the_call_and_writes_nothing_back(device: FakeDevice) -> None:
    """The result of the call before was written; the flush evicts it, and leaves no dirty lines of its own."""
    sample = ColdCudaClock(device, NoTelemetry("none")).prepare([device.work(1, 0.0, 0.2, RESULT_BYTES)])
    assert device.l2.dirty == RESULT_BYTES
    assert sample().ns == pytest.approx(0.2e6)
    device.flush()
    assert device.l2.held("result") == device.l2.held("inputs") == 0
    assert device.l2.dirty < 100


def test_a_flush_that_writes_is_in_the_sample(device: FakeDevice) -> None:
    """The fake device tells the two apart: evicting what was written takes the call's time."""
    buffer = torch.ones(2 * L2_BYTES // 4)
    device.fill = buffer.zero_
    sample = ColdCudaClock(device, NoTelemetry("none")).prepare([device.work(1, 0.0, 0.2)])
    assert sample().ns == pytest.approx((0.2 + WRITE_BACK_MS) * 1e6)


def test_the_flush_of_a_device_of_torch_only_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice its L2, as on the fake device."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: SimpleNamespace(L2_cache_size=L2_BYTES))
    monkeypatch.setattr(cuda_clock, "Flush", lambda size, _: Flush(size, "cpu"))
    real, l2 = TorchCudaDevice(), WriteBackCache(L2_BYTES)
    l2.touch("result", RESULT_BYTES, written=True)
    with l2:
        real.flush()
    assert l2.held("result") == 0
    assert l2.dirty < 100


def test_cold_result_lives_until_the_device_is_done(device: FakeDevice) -> None:
    """Freeing the result is in no timed region, and the collector is off during the call."""

    class Result:
        def __del__(self) -> None:
            device.log.append("free")

    def call() -> Result:
        device.log.append(f"gc {gc.isenabled()}")
        return Result()

    sample = ColdCudaClock(device, NoTelemetry("none")).prepare([call])
    device.log.clear()
    sample()
    assert device.log[2:] == ["event", "gc False", "event", "synchronize", "free"]
    assert gc.isenabled()


def test_launches_are_hidden_by_a_longer_block(device: FakeDevice) -> None:
    """Thirty slow launches of short kernels: the sample is retaken until it holds no gap between them."""
    sample = ColdCudaClock(device, NoTelemetry("none")).prepare([device.work(30, 0.2, 0.01)])
    device.log.clear()
    assert sample().ns == pytest.approx(0.3e6)
    blocks = [step for step in device.log if step.startswith("block")]
    assert blocks == ["block 1", "block 2", "block 4", "block 8"]
    assert device.log.count("flush") == 4, "a retaken sample is flushed again"
    device.log.clear()
    sample()
    assert [step for step in device.log if step.startswith("block")] == ["block 8"], "found out once"


def test_a_call_that_waits_for_the_device_ends_the_doubling(device: FakeDevice) -> None:
    """Such a call can never be enqueued ahead: after bounded tries it is timed without a block, host part included."""

    def call() -> None:
        device.enqueue(0.1, launch_ms=0.5)
        device.synchronize()
        device.enqueue(0.1, launch_ms=0.5)

    sample = ColdCudaClock(device, NoTelemetry("none")).prepare([call])
    device.log.clear()
    assert sample().ns == pytest.approx(1.2e6 - FLUSH_MS * 1e6), "the first launch overlaps the flush"
    assert device.log.count("flush") == 2 + math.log2(MAX_BLOCK_MS / BLOCK_MS)
    device.log.clear()
    sample()
    assert device.log == ["flush", "event", "synchronize", "event", "synchronize"]


def test_ranks_retake_together(device: FakeDevice) -> None:
    """Enqueued in time here and late on another rank: this rank calls again with it, or the other would wait."""
    sample = ColdCudaClock(device, NoTelemetry("none")).prepare([device.work(1, 0.01, 0.1)])
    device.log.clear()
    device.other_rank = 1.0
    sample()
    assert device.log.count("call") == 2 + math.log2(MAX_BLOCK_MS / BLOCK_MS)


def test_competitors_have_blocks_of_their_own(device: FakeDevice) -> None:
    """A slow launcher does not lengthen the block of another call of the same clock."""
    clock = ColdCudaClock(device, NoTelemetry("none"))
    slow, quick = clock.prepare([device.work(30, 0.2, 0.01)]), clock.prepare([device.work(1, 0.01, 0.1)])
    slow()
    device.log.clear()
    quick()
    assert f"block {BLOCK_MS:g}" in device.log


def test_hot_sample_is_one_replay_over_its_calls(device: FakeDevice) -> None:
    """The graph holds every call, is warmed up, and its time is divided by the number of calls; nothing is flushed."""
    calls = [device.work(1, 0.0, ms) for ms in (0.1, 0.2, 0.6)]
    sample = HotCudaClock(device, NoTelemetry("none")).prepare(calls)
    assert device.log[0] == "capture 3"
    assert device.log.count("replay") >= 2
    assert device.log[-1] == "synchronize", "the warm-up is over before the first sample"
    device.log.clear()
    taken = sample()
    assert device.log == [f"block {BLOCK_MS:g}", "event", "replay", *["call"] * 3, "event", "synchronize"]
    assert taken.ns == pytest.approx(0.3e6)
    assert taken.calls == 3


@pytest.mark.parametrize(
    ("read", "copies"), [(5_000_000, 1), (2_000_000, 1), (1_999_999, 2), (100_000, 20), (1, MAX_COPIES), (0, 1)]
)
def test_hot_buffers_exceed_the_l2(device: FakeDevice, read: int, copies: int) -> None:
    """Reads of all sets together are twice the L2 of 1 MB, up to a limit that bounds the graph."""
    assert HotCudaClock(device, NoTelemetry("none")).copies(read) == copies


def test_hot_energy_is_that_of_one_call(device: FakeDevice) -> None:
    """500 W for 0.3 ms a call, wherever between two ticks of the counter the replays begin."""
    device.enqueue(TICK_MS / 2)
    clock = HotCudaClock(device, FakeTelemetry(device))
    clock.prepare([device.work(1, 0.0, 0.3)] * 4)()
    state = clock.state()
    assert state is not None
    assert state.energy_j == pytest.approx(POWER_W * 0.3e-3, rel=0.05)


def test_energy_belongs_to_the_work_sampled_last(device: FakeDevice) -> None:
    """Competitors sampled in turn each have their own, and asking takes nothing from the device."""
    clock = HotCudaClock(device, FakeTelemetry(device))
    samples = {ms: clock.prepare([device.work(1, 0.0, ms)]) for ms in (0.3, 3.0)}
    for ms in (3.0, 0.3, 3.0):
        samples[ms]()
        device.log.clear()
        state = clock.state()
        assert state is not None
        assert state.energy_j == pytest.approx(POWER_W * ms / 1e3, rel=0.05)
        assert device.log == []


def test_ranks_replay_equally_often_for_the_energy(device: FakeDevice) -> None:
    """The number of replays comes from the slowest rank's time, whatever this rank's own and its counter are."""
    replays = []
    for ms, counts in ((0.3, True), (2.0, False)):
        device.other_rank = 5.0
        device.log.clear()
        HotCudaClock(device, FakeTelemetry(device, counts=counts)).prepare([device.work(1, 0.0, ms)])
        replays.append(device.log.count("replay"))
    assert replays[0] == replays[1]


def test_no_energy_where_the_device_counts_none(device: FakeDevice) -> None:
    """A device without the counter has a state without energy."""
    clock = HotCudaClock(device, FakeTelemetry(device, counts=False))
    clock.prepare([device.work(1, 0.0, 0.3)])()
    state = clock.state()
    assert state is not None
    assert state.energy_j is None


def test_a_counter_that_fails_at_times_gives_the_energy_of_one_call_all_the_same(device: FakeDevice) -> None:
    """The first reading is the one that no energy is counted from: it must be one."""

    class Fails(FakeTelemetry):
        readings = 0

        def energy_j(self) -> float | None:
            self.readings += 1
            joules = super().energy_j()
            return None if self.readings % 7 == 1 else joules

    clock = HotCudaClock(device, Fails(device))
    clock.prepare([device.work(1, 0.0, 0.3)] * 4)()
    assert clock.state().energy_j == pytest.approx(POWER_W * 0.3e-3, rel=0.05)


def test_cold_state_has_no_energy(device: FakeDevice) -> None:
    """The flush and the block would be counted in it."""
    clock = ColdCudaClock(device, FakeTelemetry(device, "gpu_idle"))
    clock.prepare([device.work(1, 0.0, 0.3)])()
    state = clock.state()
    assert state is not None
    assert (state.energy_j, state.throttle_reasons) == (None, ["gpu_idle"])


@pytest.mark.parametrize("kind", [ColdCudaClock, HotCudaClock])
@pytest.mark.parametrize(
    ("reasons", "throttled"),
    [
        (["hw_thermal_slowdown"], True),
        (["sw_power_cap", "hw_power_brake"], True),
        (["sw_power_cap"], False),
        (["gpu_idle", "application_clocks"], False),
        ([], False),
    ],
)
def test_throttled_samples_say_so(
    device: FakeDevice, kind: type[ColdCudaClock | HotCudaClock], reasons: list[str], throttled: bool
) -> None:
    """Slowdowns make a sample unfit; the power cap and settings do not."""
    clock: Clock = kind(device, FakeTelemetry(device, *reasons))
    assert clock.name == "cuda_event"
    assert clock.prepare([device.work(1, 0.0, 0.3)])().throttled is throttled


class OtherStream:
    """The result of a call: there when the stream that fills it is, which waits for nothing."""

    def __init__(self, device: FakeDevice, ready_ms: float) -> None:
        self._device = device
        self._ready_ms = ready_ms

    def copied(self) -> bool:
        """Queue a copy on the stream that is timed; return whether it finds the result."""
        self._device.enqueue(0.01)
        return self._device.free_ms >= self._ready_ms


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("kind", [ColdCudaClock, HotCudaClock])
def test_what_is_copied_of_a_result_does_not_wait_for_other_streams(
    device: FakeDevice, kind: type[ColdCudaClock | HotCudaClock], hidden: bool
) -> None:
    """A call that starts its work on another stream is timed as nothing, and its result is not there yet."""
    copies: list[bool] = []

    def call() -> OtherStream:
        ready_ms = max(device.host_ms, device.free_ms) + 40.0
        if not hidden:
            device.enqueue(40.0)
        return OtherStream(device, ready_ms)

    def keep(result: object) -> None:
        assert isinstance(result, OtherStream)
        copies.append(result.copied())
        assert device.log[-1] == "event", "nothing waits between the stop event and the copy"

    clock: Clock = kind(device, FakeTelemetry(device))
    sample = clock.prepare([call], keep)
    copies.clear()
    device.log.clear()
    assert (sample().ns < 1e6) is hidden
    assert copies == [not hidden]


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@on_a_gpu
def test_cold_and_hot_agree_on_a_large_matmul() -> None:
    """Bound by arithmetic, it takes the same time either way, and as long as its FLOPs need."""
    device, telemetry = TorchCudaDevice(), connect(torch.cuda.current_device())
    a = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
    cold, hot = (kind(device, telemetry).prepare([lambda: a @ a]) for kind in (ColdCudaClock, HotCudaClock))
    cold_ns, hot_ns = (sorted(sample().ns for _ in range(11))[5] for sample in (cold, hot))
    assert 0.5 < cold_ns / hot_ns < 2
    assert 2 * 4096**3 / cold_ns < 5e6, "FLOPs per nanosecond above 5 PFLOP/s"


@pytest.mark.gpu
@on_a_gpu
def test_a_training_step_is_captured() -> None:
    """Forward and backward of several sets of buffers in one graph, more than once in a process."""
    clock = HotCudaClock(TorchCudaDevice(), NoTelemetry("not asked"))
    w = torch.randn(256, 256, device="cuda", requires_grad=True)

    def step() -> object:
        return torch.autograd.grad((w @ w).square().sum(), w)

    assert all(clock.prepare([step, step])().ns > 0 for _ in range(2))


@pytest.mark.gpu
@on_a_gpu
def test_a_call_that_waits_for_the_device_is_refused_unharmed() -> None:
    """The message says why, and the next capture in the same process works, on the same stream."""
    clock = HotCudaClock(TorchCudaDevice(), NoTelemetry("not asked"))
    x, stream = torch.ones(1024, device="cuda"), torch.cuda.current_stream()
    with pytest.raises(CannotCapture, match="synchroniz"):
        clock.prepare([lambda: torch.nonzero(x)])
    assert torch.cuda.current_stream() == stream
    assert clock.prepare([lambda: x + 1])().ns > 0


@pytest.mark.gpu
@on_a_gpu
def test_a_call_that_waits_for_the_device_is_measured_cold() -> None:
    """The sample of such a call is taken without the block."""
    x = torch.ones(1024, device="cuda")
    ns = ColdCudaClock(TorchCudaDevice(), NoTelemetry("not asked")).prepare([lambda: torch.nonzero(x)])().ns
    assert 0 < ns < 1e6 * MAX_BLOCK_MS
