"""A record: one implementation on one point of a suite, measured or refused, with everything needed to trust it.

This module imports neither torch nor a sibling folder: a report reads records on a machine that could never make them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from .earlier_schema import upgraded
from .identity import Identity, config_text

SCHEMA: Final = 2

LARGEST: Final = 2**100
"""No count and no amount of a record is larger; what is would make an infinity of every sum and ratio in a report."""

SMALLEST: Final = 2.0**-100
"""No sample and no rate is smaller, so that one over it is a number."""
MOST_SAMPLES: Final = 20_000
"""Ten times what a run takes; the interval of a median draws each of them 2000 times."""

Count = Annotated[int, Field(ge=0, le=LARGEST)]
Amount = Annotated[float, Field(ge=0, le=LARGEST)]
Positive = Annotated[float, Field(ge=SMALLEST, le=LARGEST)]

CacheState = Literal["cold", "hot", "eager"]
"""How calls are timed. Times of different ways are never compared.

``cold``: nothing that the call reads is in the caches; on a GPU the device's time alone. ``hot``: a CUDA graph of many
calls that go round more inputs than the cache holds. ``eager``: calls that Python makes one after the other over such
inputs, by the host's clock, the launches included.
"""

Cold = Literal["flushed", "rotated"]
"""How caches are made cold: a buffer that is larger is read before each sample, or calls rotate over sets of inputs."""

Stage = Literal["search", "final", "cross", "held-out"]
"""The part of a tuning run that a record belongs to."""

CallStage = Literal["route", "dispatch", "up", "activation", "down", "combine", "communication", "waiting", "backward"]
"""What a call does at a time, in the order in which reports show it (``kernels.instruments.stage`` explains)."""

Size = Literal["small", "reduced", "full"]
"""The form of a suite."""


class Status(StrEnum):
    """How a trial ended. Samples exist only where it passed.

    A problem may be ``unsupported``; for one that is not, a configuration may be ``invalid``, which is known before it
    is built, or ``uncompilable``: the compiler refuses it, or a search leaves its code unmeasured because it spills.
    The device makes it ``unstable`` by slowing down, other work on the host makes it ``disturbed``.
    """

    passed = "passed"
    wrong = "wrong"
    implausible = "implausible"
    unsupported = "unsupported"
    invalid = "invalid"
    uncompilable = "uncompilable"
    out_of_memory = "out_of_memory"
    timeout = "timeout"
    crashed = "crashed"
    unstable = "unstable"
    disturbed = "disturbed"

    @property
    def of_the_machine(self) -> bool:
        """True if the machine had no number to give at the time, which says nothing of the implementation."""
        return self in (Status.unstable, Status.disturbed)

    @property
    def bad(self) -> bool:
        """True if this makes the run fail. A refusal does not, nor does a point that is too large for the machine."""
        return self not in (Status.passed, Status.unsupported, Status.invalid, Status.out_of_memory)


class _RecordPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    def model_post_init(self, _context: object, /) -> None:
        """Share the set of the fields that were given with all that have the same: it is 40 % of a record's memory."""
        object.__setattr__(self, "__pydantic_fields_set__", _first_equal_set(frozenset(self.model_fields_set)))


@lru_cache(maxsize=1024)
def _first_equal_set(names: frozenset[str]) -> set[str]:
    return set(names)


class Point(_RecordPart):
    """The place of a record in its suite: ``series`` names the line of a plot, ``x`` the place on its axis.

    ``stage`` and ``batch`` are of a tuning run: records of one batch were sampled in turn. ``model`` is the name of the
    released model whose shape the problem has, ``size`` the form of the suite. All four are None elsewhere.
    """

    suite: str = Field(description="name of the suite")
    question: str = Field(description="the question that the suite answers")
    axis: str = Field(description="title of the axis, with its unit")
    series: str = Field(description="name of the line in a plot")
    x: float | str = Field(description="place on the axis")
    baseline: str = Field(description="kernel that the others are compared with")
    cache: CacheState = Field(default="cold", description="how calls were timed")
    stage: Stage | None = Field(default=None, description="part of a tuning run, None outside of one")
    batch: int | None = Field(
        default=None, description="batch of a tuning run whose candidates were sampled in turn, None outside of one"
    )
    model: str | None = Field(
        default=None, description="released model whose shape the problem has, None for another shape"
    )
    size: Size | None = Field(default=None, description="form of the suite, None outside of one")

    @property
    def line(self) -> str:
        """Label of the line that the record is on: its series, its batch, and how calls were timed unless cold.

        Records on different lines are never compared.
        """
        if not self.stage and self.cache == "cold":
            return self.series  # as of nearly all records: a report asks for many of them
        batch = f"{self.stage} {self.batch}" if self.stage else ""
        return ", ".join(part for part in (self.series, batch, _TIMED[self.cache]) if part)


_TIMED: Final[Mapping[CacheState, str]] = {"cold": "", "hot": "hot caches", "eager": "eager calls"}


class Error(_RecordPart):
    """Distance from the float64 reference, as ‖out − ref‖ / ‖ref‖ and as the worst row and expert of the same."""

    norm: float = Field(description="‖out − ref‖ / ‖ref‖ of the whole tensor")
    worst_row: float = Field(description="the same of the worst row")
    worst_expert: float = Field(
        default=0.0, description="the same of the worst expert, by its own norm; 0 where rows are tokens"
    )


class Memory(_RecordPart):
    """Bytes: the peak a call allocates beyond its inputs, and what a training step keeps for its backward."""

    peak: Count = Field(description="bytes that one call allocates beyond its inputs, at the peak")
    saved: Count = Field(description="bytes that a training step keeps for its backward pass")


class Launches(_RecordPart):
    """Launches of one call, by name: kernels of this package, and torch operators that compute or copy.

    On a GPU an operator is one launch or more; what another package starts by itself is not seen. ``host_waits`` are
    operators whose result the host has to wait for.
    """

    kernels: dict[str, Count] = Field(default_factory=dict, description="launches of this package's kernels, by name")
    operators: dict[str, Count] = Field(
        default_factory=dict, description="torch operators that compute or copy, by name"
    )
    host_waits: Count = Field(default=0, description="operators whose result the host waits for")


class Traffic(_RecordPart):
    """Payload of one call, a figure for each rank in order.

    ``self_bytes`` stayed on the rank, ``node_bytes`` went to others of its node, of ``ranks_per_node``, and
    ``across_bytes`` to other nodes, in ``messages`` to others. ``rows`` are the copies of tokens that left the rank,
    ``routes`` how many would have, had every route had a copy: what deduplication saved, or padding added.
    """

    ranks_per_node: Count = Field(description="ranks of one node")
    self_bytes: list[Count] = Field(description="for each rank, what stayed on it")
    node_bytes: list[Count] = Field(description="for each rank, what went to other ranks of its node")
    across_bytes: list[Count] = Field(description="for each rank, what went to other nodes")
    messages: list[Count] = Field(description="for each rank, messages to other ranks")
    rows: list[Count] = Field(description="for each rank, copies of tokens that left it")
    routes: list[Count] = Field(description="for each rank, routes to experts on other ranks")

    @property
    def sent_by_rank(self) -> list[int]:
        """Bytes that each rank sent to others."""
        return [sum(both) for both in zip(self.node_bytes, self.across_bytes, strict=False)]

    @property
    def sent_bytes(self) -> int:
        """Bytes that all ranks together sent to others."""
        return sum(self.sent_by_rank)


class Phases(_RecordPart):
    """Parts of the time of one call on each rank, in nanoseconds: medians of calls outside the samples.

    With every collective started by all ranks together, ``waiting_ns`` is what a rank waited for the slowest,
    ``communication_ns`` what the collectives took, ``compute_ns`` the rest. As the call is sampled, collectives lasted
    ``busy_ns``, and for ``exposed_ns`` of that the computation stood still.
    """

    compute_ns: list[Amount] = Field(description="for each rank, the time neither communicating nor waiting")
    communication_ns: list[Amount] = Field(
        description="for each rank, the time of its collectives when all ranks start them together"
    )
    waiting_ns: list[Amount] = Field(description="for each rank, the time it waited for the slowest rank")
    busy_ns: list[Amount] = Field(description="for each rank, the time of its collectives as the call is sampled")
    exposed_ns: list[Amount] = Field(description="for each rank, the part of `busy_ns` during which it did not compute")

    @property
    def overlap(self) -> float:
        """Share of the communication that was hidden behind computation."""
        busy = sum(self.busy_ns)
        return max(0.0, 1 - sum(self.exposed_ns) / busy) if busy else 0.0


class Stages(_RecordPart):
    """Parts of the time of one call by what it did, in nanoseconds: of calls outside the samples, with warm caches.

    They are those of the one call whose whole time was the median, so that they add up to ``whole_ns`` together with
    `unattributed_ns`; of several ranks they are means, and every collective is started by all ranks together and over
    before the computation goes on. A step that is fused into a product counts as that product. The backward pass of a
    training step is one stage, but for what its ranks communicate and wait. What no stage names is unattributed, as is
    all that another package does in a forward pass.
    """

    stages_ns: dict[CallStage, Amount] = Field(
        description="for each stage that the call had, the time in it and in none of the stages inside of it"
    )
    whole_ns: Amount = Field(description="the time of the same call")

    @property
    def unattributed_ns(self) -> float:
        """The time of the call that was in no stage."""
        return max(0.0, self.whole_ns - sum(self.stages_ns.values()))

    @model_validator(mode="after")
    def _parts_fit_into_the_whole(self) -> Stages:
        if (parts := sum(self.stages_ns.values())) > self.whole_ns * (1 + 1e-9):
            raise ValueError(f"the stages take {parts:g} ns together, the whole call {self.whole_ns:g} ns")
        return self


class Sameness(_RecordPart):
    """Result of comparing a token's bits between calls that differ in one thing.

    Where it differs, ``differs`` says what differs first: the lowest token, or in a training step also a gradient.
    """

    guaranteed: bool = Field(description="whether the kernel guarantees the same bits by construction")
    differs: str = Field(default="", description="what differs first, in words, empty if nothing does")
    token: Count | None = Field(default=None, description="first token whose output differs, None if none does")
    where: str = Field(default="", description="the call in which it differs from the call on the whole batch")
    tokens: Count = Field(default=0, description="tokens whose output differs in any comparison")
    distance: float = Field(
        default=0.0, ge=0, le=2, description="largest ‖one − other‖ over the larger norm of the two, of one row"
    )
    beyond_rounding: Count | None = Field(
        default=None, description="first token that differs by more than right outputs of this dtype do"
    )

    @property
    def same(self) -> bool:
        """True if no bit differed."""
        return not self.differs


class Invariance(_RecordPart):
    """Comparison of outputs bit for bit with those of other calls. None is what had no other call, as a batch of one.

    ``reason`` is that of the properties that the kernel guarantees, empty where it guarantees none.
    """

    repeat: Sameness | None = Field(default=None, description="in the same call again, gradients included")
    batch: Sameness | None = Field(default=None, description="in smaller batches of the same tokens")
    alone: Sameness | None = Field(default=None, description="with one token alone")
    order: Sameness | None = Field(default=None, description="with the tokens in another order")
    reason: str = Field(default="", description="why the kernel guarantees what it does")

    @property
    def properties(self) -> dict[str, Sameness]:
        """The properties that were compared, by name."""
        named = {"repeat": self.repeat, "batch": self.batch, "alone": self.alone, "order": self.order}
        return {name: found for name, found in named.items() if found is not None}


class Work(_RecordPart):
    """The work of one call, needed and done: FLOPs and bytes of the whole call, rows of the expert products."""

    useful_flops: Count = Field(description="FLOPs of the expert products on kept rows")
    executed_flops: Count = Field(description="the same with padding")
    ideal_bytes: Count = Field(description="inputs, weights of experts with a token and outputs, each moved once")
    routed_rows: Count = Field(description="routes of all tokens")
    kept_rows: Count = Field(description="routes that the capacity did not drop")
    capacity: Count | None = Field(default=None, description="rows one expert takes from one rank, None when dropless")

    @property
    def drop_rate(self) -> float:
        """Share of the routed rows that the capacity dropped."""
        return 1 - self.kept_rows / self.routed_rows if self.routed_rows else 0.0


class RouterLosses(_RecordPart):
    """Losses and entropies of a router that chose by logits, without coefficients; entropies are in nats."""

    load_balancing: float = Field(description="E Σ f P over all routes (Switch): 1 if balanced")
    first_choices: float = Field(description="the same over first choices (GShard)")
    z: float = Field(description="mean squared logarithm of the sum of exponentials (ST-MoE)")
    expert_entropy: float = Field(description="H(m), entropy of the mean probabilities (ModuleFormer)")
    token_entropy: float = Field(description="H(m|x), mean entropy of a token's probabilities (ModuleFormer)")


class Balance(_RecordPart):
    """Balance of the routes of one call, all ranks together.

    It is that of the first check's routes; samples are taken with the same rows of every expert.
    """

    max_over_mean: Amount = Field(description="rows of the fullest expert over the mean")
    gini: Amount = Field(description="Gini coefficient of the experts' rows: 0 balanced, 1 − 1/E on one expert")
    dead_experts: Count = Field(description="experts without a row")
    load_cv2: Amount = Field(description="squared coefficient of variation of the experts' rows")
    importance_cv2: Amount = Field(description="the same of their summed gate weights")
    dropped_gates: Amount = Field(description="share of the gate weight that the capacity dropped")
    sufficient_capacity_factor: Amount = Field(description="capacity factor above which nothing would be dropped")
    padding: dict[int, Amount] = Field(
        description="for tiles of so many rows, rows that padding adds to the kept ones, over those"
    )
    losses: RouterLosses | None = Field(
        default=None, description="losses of the router, None where no logits decide: a recorded load, token ids"
    )


class Roofline(_RecordPart):
    """Measured rates of the machine: FLOP/s of a dense matmul in the record's dtype, bytes/s of memory.

    The rate of memory is the better of a copy, read and write both counted, and of a stream that only reads.
    """

    flops_per_s: Positive = Field(description="rate of a dense matmul in the record's dtype")
    bytes_per_s: Positive = Field(description="rate of memory")
    disturbed: bool = Field(
        default=False, description="whether others used the cores whenever these were measured: the rates may be higher"
    )

    def bound_ns(self, work: Work) -> float:
        """Return the lower bound of a call's time in nanoseconds: the slower of useful FLOPs and ideal bytes."""
        return 1e9 * max(work.useful_flops / self.flops_per_s, work.ideal_bytes / self.bytes_per_s)


class Timing(_RecordPart):
    """Raw samples of the call in nanoseconds, in the order they were taken.

    ``clock`` names what measured them (``perf_counter`` or ``cuda_event``), ``cache`` how calls were timed;
    ``throttled`` counts samples that were dropped because the device slowed itself down, ``disturbed`` those during
    which the host did other work; ``stopped`` says which rule ended the sampling; ``enough`` means as many as were
    asked for, which may be few. ``cold`` says how the caches were made cold: by a flush, or by rotation over sets of
    inputs and blocks of memory for what a call allocates, which leaves the code warm. It is None where they were not
    cold, and in records from before rotation, which were flushed.
    """

    clock: Literal["perf_counter", "cuda_event"] = Field(description="what measured the samples")
    cache: CacheState = Field(description="how calls were timed")
    cold: Cold | None = Field(default=None, description="how caches were made cold before a sample")
    samples_ns: list[Positive] = Field(
        min_length=1, max_length=MOST_SAMPLES, description="the samples in the order in which they were taken"
    )
    calls: Count = Field(default=1, description="calls timed together in each sample, which is their average")
    throttled: Count = Field(default=0, description="samples dropped because the device slowed itself down")
    disturbed: Count | None = Field(
        default=None,
        description="samples dropped because others used the host's cores, None where that was not watched",
    )
    stopped: Literal["settled", "plateau", "time_limit", "enough"] = Field(
        description="the rule that ended the sampling"
    )

    @property
    def caches(self) -> str:
        """How calls found the caches, in words: hot, eager, or cold and how they were made so."""
        return self.cache if self.cache != "cold" else f"cold, {self.cold or 'flushed'}"

    @property
    def timed_s(self) -> float:
        """Seconds of all the calls in the samples."""
        return self.calls * sum(self.samples_ns) / 1e9


class Clocks(_RecordPart):
    """State of an NVIDIA device after the last sample: MHz, watts, degrees Celsius; and the joules of a call.

    What could not be read is None; ``unread`` then says why the first reading of the process that failed did. On a CPU
    there is the energy alone.

    Joules are those that the whole device used while it made calls back to back for half a second or more: a GPU with
    its memory and board, or the packages of a CPU with all their cores, used or not, without the memory. Caches are
    warm, but for those of a hot clock, whose calls go round more inputs than the cache holds. On several ranks they are
    the sum over the ranks' devices.
    """

    sm_mhz: Count | None = Field(default=None, description="clock of the multiprocessors")
    memory_mhz: Count | None = Field(default=None, description="clock of the memory")
    power_w: Amount | None = Field(default=None, description="power draw")
    temperature_c: int | None = Field(default=None, description="temperature of the device")
    throttle_reasons: list[str] | None = Field(default=None, description="reasons why the device slowed itself down")
    energy_j: Amount | None = Field(default=None, description="energy of one of many calls back to back")
    unread: str = Field(default="", description="why the first reading that failed did, empty if none failed")


class Environment(_RecordPart):
    """The machine and the software that made a record.

    ``cupy`` is the version of the CuPy that ran our CUDA kernels, None where they did not run. ``routes_by`` says what
    ordered the routes: ``CUDA``, or ``torch`` and on a GPU why. It is None in records from before it was recorded.
    """

    device: str = Field(description="name of the processor or GPU")
    device_type: Literal["cpu", "cuda"] = Field(description="kind of device")
    cores: Count = Field(description="cores that the process may use")
    threads: Count = Field(description="threads of torch")
    memory_bytes: Count = Field(description="memory of the device")
    os: str = Field(description="operating system and version")
    python: str = Field(description="version of Python")
    torch: str = Field(description="version of torch")
    triton: str | None = Field(default=None, description="version of Triton, None where it is not installed")
    cuda: str | None = Field(default=None, description="version of CUDA that torch was built for, None on a CPU")
    driver: str | None = Field(default=None, description="version of the GPU's driver")
    cupy: str | None = Field(
        default=None, description="version of the CuPy that ran the CUDA kernels, None where they did not run"
    )
    routes_by: str | None = Field(
        default=None, description="what sorted the routes: `CUDA`, or `torch` and on a GPU why"
    )
    moebench: str = Field(description="version of moebench")

    def differs(self, other: Environment) -> list[str]:
        """Return the fields in which two environments differ, as ``name: this / other``.

        ``threads`` does not count, because it varies with the ranks; nor does CuPy where one of the two is from before
        it was recorded.
        """
        ignored = {"threads"} | ({"cupy", "routes_by"} if None in (self.routes_by, other.routes_by) else set())
        if self is other:
            return []
        return [
            f"{name}: {getattr(self, name)} / {getattr(other, name)}"
            for name in type(self).model_fields
            if name not in ignored and getattr(self, name) != getattr(other, name)
        ]


@lru_cache(maxsize=256)
def _first_equal(environment: Environment) -> Environment:
    return environment


class Record(_RecordPart):
    """The record of one trial. ``key`` is the problem that was asked for, as one word.

    ``problem`` is the one that was solved, as plain data: the same, except for a reference rate. ``config`` is the
    configuration that ran.

    ``wall_s`` are the seconds the trial took in all, of which the samples are the timed part.
    """

    schema_version: Literal[2] = Field(description="version of this schema")
    point: Point = Field(description="the place of the record in its suite")
    key: str = Field(description="the problem that was asked for, in one word")
    problem: dict[str, JsonValue] = Field(description="the problem that was solved, as plain data")
    kernel: str = Field(description="name of the implementation")
    family: str = Field(description="family of the implementation")
    config: dict[str, JsonValue] = Field(description="its configuration")
    status: Status = Field(description="how the trial ended")
    reason: str = Field(default="", description="why the status is not passed")
    needed_bytes: Count | None = Field(default=None, description="bytes needed by an estimate, if out_of_memory")
    timing: Timing | None = Field(default=None, description="present if passed")
    errors: dict[str, Error] = Field(
        default_factory=dict,
        description="distance from the reference, by tensor: the larger of the checks before and after",
    )
    memory: Memory | None = Field(default=None, description="present once the first call returned")
    launches: Launches | None = Field(default=None, description="present once the first call returned")
    work: Work | None = Field(default=None, description="present once the problem was drawn")
    balance: Balance | None = Field(
        default=None, description="balance of the routes, present once the problem was drawn; not in earlier records"
    )
    roofline: Roofline | None = Field(default=None, description="present once a competitor was measured")
    traffic: Traffic | None = Field(default=None, description="present on several ranks")
    sent_before_traffic: list[Count] = Field(
        default_factory=list, description="for each rank, bytes sent to others, in records from before `traffic`"
    )
    phases: Phases | None = Field(
        default=None, description="present on several ranks, unless others disturbed its calls"
    )
    stages: Stages | None = Field(
        default=None, description="present where a run asks for it (`--stages`), unless others disturbed its calls"
    )
    invariance: Invariance | None = Field(default=None, description="present where a suite asks for it")
    clocks: Clocks | None = Field(
        default=None, description="present on an NVIDIA device, and on a CPU whose energy can be read"
    )
    environment: Environment = Field(description="the machine and the software")
    commit: str = Field(description="commit of the checkout, with `-dirty` after it when sources differ, or `unknown`")
    source: str = Field(default="", description="hash of the sources that the kernel is made of")
    time: str = Field(description="when the record was made, UTC, ISO 8601")
    wall_s: Amount = Field(default=0.0, description="duration of the whole trial, divided by its competitors")

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_schema(cls, line: object) -> object:
        return upgraded(line) if isinstance(line, Mapping) and line.get("schema_version") == 1 else line

    @field_validator("environment")
    @classmethod
    def _one_object_for_each_machine(cls, environment: Environment) -> Environment:
        return _first_equal(environment)  # a file has thousands of records and few machines

    @model_validator(mode="after")
    def _samples_only_where_passed(self) -> Record:
        if (self.status is Status.passed) != (self.timing is not None):
            raise ValueError(
                f"status is {self.status.value}, but there are {'no ' if self.timing is None else ''}samples"
            )
        if self.status is not Status.passed and not self.reason:
            raise ValueError(f"status is {self.status.value}, but no reason is given")
        return self

    @model_validator(mode="after")
    def _values_that_can_be_drawn(self) -> Record:
        values = {**self.problem, "x": self.point.x}
        if nested := [name for name, value in values.items() if isinstance(value, list | dict)]:
            raise ValueError(f"{nested[0]} of the problem is a list or an object, not one value")
        for name, value in values.items():
            if isinstance(value, int | float) and not abs(value) <= LARGEST:
                raise ValueError(f"{name} is larger than any there is")
        return self

    @property
    def identity(self) -> Identity:
        """The identity of this measurement."""
        return Identity.at(
            self.point, problem=self.key, kernel=self.kernel, config=config_text(self.config), source=self.source
        )

    @property
    def sent_bytes(self) -> list[int]:
        """Payload bytes that each rank sent to others in one call; empty where nothing is shared."""
        return self.traffic.sent_by_rank if self.traffic else self.sent_before_traffic
