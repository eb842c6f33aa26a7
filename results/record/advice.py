"""Advice: the dispatch and the configuration to use for a mix of traffic, with what they take and how sure that is.

This module imports neither torch nor a sibling folder: a page shows advice where nothing could be measured.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, NonNegativeFloat, NonNegativeInt, PositiveInt

ADVICE_SCHEMA: Final = 1


class AdviceSource(StrEnum):
    """Origins of a time, the most trustworthy first. Times of different sources are never compared."""

    measured = "measured"
    interpolated = "interpolated"
    tuned_table = "tuned_table"
    predicted = "predicted"


class Certainty(StrEnum):
    """How sure it is that one dispatch is faster than another.

    ``certain``: measured side by side, and the 95 % interval of the ratio excludes 1. ``likely``: certain at the
    measured numbers of tokens on both sides of an interpolated one, or predicted to differ by more than predictions
    were wrong. ``tied``: the difference is within the interval, or within that error. ``unclear``: nothing says how
    large the error of the difference is.
    """

    certain = "certain"
    likely = "likely"
    tied = "tied"
    unclear = "unclear"


class _AdvicePart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DispatchOption(_AdvicePart):
    """One dispatch for one phase, in the configuration that is its fastest there."""

    kernel: str = Field(description="name of the implementation")
    config: dict[str, JsonValue] = Field(description="its configuration")
    source: AdviceSource = Field(description="where the time is from")
    basis: str = Field(description="the same in words")
    seconds: NonNegativeFloat = Field(description="time of one call of one layer; of samples their median")
    low_s: NonNegativeFloat | None = Field(
        default=None, description="lower end of its 95 % interval, None where it was not measured"
    )
    high_s: NonNegativeFloat | None = Field(default=None, description="upper end of that interval")
    model_seconds: NonNegativeFloat | None = Field(
        default=None, description="time of one call of all MoE layers, None where their number is unknown"
    )
    tokens_per_s: NonNegativeFloat = Field(description="tokens a second through one layer")
    model_tokens_per_s: NonNegativeFloat | None = Field(
        default=None, description="tokens a second through all MoE layers, None where their number is unknown"
    )
    peak_bytes: NonNegativeInt | None = Field(
        default=None, description="bytes that a call allocates beyond its inputs, at the peak; None where unknown"
    )
    call_bytes: NonNegativeInt | None = Field(
        default=None, description="the same with the call's inputs: tokens, routes and the weights of one layer"
    )
    cost_per_million: NonNegativeFloat | None = Field(
        default=None,
        description="price of a million tokens through all MoE layers, or through one where their number is unknown; "
        "None without a price",
    )
    certainty: Certainty | None = Field(
        default=None, description="how sure it is that the advised dispatch is faster, None for the advised one"
    )


class Unmeasured(_AdvicePart):
    """A dispatch without a time of the phase's source that may be faster: its prediction, which is not compared."""

    kernel: str = Field(description="name of the implementation")
    seconds: NonNegativeFloat = Field(description="predicted time of one call of one layer")


class Margin(_AdvicePart):
    """Comparison of the advised dispatch with another: the time of the other over that of the advised."""

    over: str = Field(description="the other dispatch")
    ratio: NonNegativeFloat = Field(description="time of the other over that of the advised")
    low: NonNegativeFloat | None = Field(
        default=None, description="lower end of the 95 % interval of the ratio, None where there is none"
    )
    high: NonNegativeFloat | None = Field(default=None, description="upper end of that interval")
    certainty: Certainty = Field(description="how sure it is that the advised is faster")
    why: str = Field(description="the reason for that, in words")


class PhaseAdvice(_AdvicePart):
    """Advice for one phase: calls of ``tokens`` tokens, through which a ``share`` of all tokens passes."""

    phase: Literal["decode", "prefill", "train"] = Field(description="name of the phase; a train call is a step")
    tokens: PositiveInt = Field(description="tokens of one call")
    share: float = Field(gt=0, le=1, description="share of all tokens that are in calls of this phase")
    key: str = Field(description="the problem in one word, as records have it")
    options: list[DispatchOption] = Field(description="the dispatches that can be compared, the advised one first")
    margin: Margin | None = Field(default=None, description="margin over the second, None where there is no second")
    unmeasured: list[Unmeasured] = Field(
        default_factory=list,
        description="dispatches without a time whose prediction is under three quarters of the time of the advised one",
    )
    left_out: list[str] = Field(default_factory=list, description="dispatches that are no options, and why")
    reason: str = Field(default="", description="why there is no option, empty where there is one")

    @property
    def advised(self) -> DispatchOption | None:
        """The dispatch to use, None where there is none."""
        return self.options[0] if self.options else None

    @property
    def tied(self) -> list[DispatchOption]:
        """The dispatches that are tied with the advised one."""
        return [option for option in self.options if option.certainty is Certainty.tied]

    @property
    def title(self) -> str:
        """The phase as `--traffic` spells it, without its share."""
        return f"{self.phase}:{self.tokens}"


class SingleDispatch(_AdvicePart):
    """The dispatch that is the best of those that can run every phase, and what it loses to a choice per phase."""

    kernel: str = Field(description="name of the implementation; its configurations are those of the phases")
    seconds_per_million: NonNegativeFloat = Field(description="time of a million tokens of the mix through one layer")
    loss: NonNegativeFloat = Field(description="share of the time of the mix by which it is slower")
    certainty: Certainty | None = Field(
        default=None, description="how sure that loss is, None where it is the advised dispatch of every phase"
    )
    why: str = Field(default="", description="the reason for that, in words")


class MixAdvice(_AdvicePart):
    """The mix as a whole, with the advised dispatch in each phase."""

    seconds_per_million: NonNegativeFloat = Field(description="time of a million tokens of the mix through one layer")
    tokens_per_s: NonNegativeFloat = Field(description="tokens a second of the mix through one layer")
    model_tokens_per_s: NonNegativeFloat | None = Field(
        default=None, description="tokens a second through all MoE layers, None where their number is unknown"
    )
    cost_per_million: NonNegativeFloat | None = Field(
        default=None, description="price of a million tokens of the mix, as that of a phase"
    )
    sources: list[AdviceSource] = Field(description="where the times of the phases are from, each once")
    single: SingleDispatch | None = Field(
        default=None, description="the best dispatch for all phases, None where none can run all of them"
    )


class ExpertMemory(_AdvicePart):
    """Memory of the routed experts of a model's MoE layers, or of one layer, in one format of weights."""

    bits: int = Field(description="nominal bits of a weight")
    number_format: str = Field(description="format of the weights and of their scales")
    expert_bytes: NonNegativeInt = Field(description="bytes of all routed experts, scales and biases included")
    activated_bytes: NonNegativeInt = Field(description="bytes of the experts that one token activates")
    fits: bool | None = Field(default=None, description="whether all are at most the device's memory, None if unknown")
    largest: str | None = Field(
        default=None, description="the largest model of the family whose experts fit, None where none does"
    )
    largest_bytes: NonNegativeInt | None = Field(default=None, description="bytes of the experts of that model")


class ExpertSize(_AdvicePart):
    """Size of the routed experts of a model's MoE layers, or of one layer, without routers and shared experts."""

    layers: PositiveInt | None = Field(default=None, description="MoE layers that are counted, None for one layer")
    total_parameters: NonNegativeInt = Field(description="parameters of all routed experts")
    activated_parameters: NonNegativeInt = Field(description="parameters of the experts that one token activates")
    flops_per_token: NonNegativeInt = Field(
        description="FLOPs of the activated experts in a forward: two for each of their parameters in a product"
    )
    family: str = Field(default="", description="first word of the model's name, empty where it is of no family")
    memory: list[ExpertMemory] = Field(description="memory at 16, 8 and 4 bits")


class Advice(_AdvicePart):
    """Advice for one layer, a mix of traffic and a device."""

    kind: Literal["advice"] = Field(default="advice", description="tells an advice from records and predictions")
    schema_version: Literal[1] = Field(default=ADVICE_SCHEMA, description="version of this schema")
    layer: str = Field(description="name of the layer")
    problem: dict[str, JsonValue] = Field(description="the problem of the first phase, as plain data")
    device: str = Field(description="name of the device")
    memory_bytes: NonNegativeInt | None = Field(default=None, description="memory of the device, None if unknown")
    price_per_hour: NonNegativeFloat | None = Field(
        default=None, description="price of the device for an hour, None where none was stated"
    )
    phases: list[PhaseAdvice] = Field(description="the phases of the traffic, in order")
    mix: MixAdvice | None = Field(default=None, description="the mix, None where a phase has no option")
    experts: ExpertSize = Field(description="size of the experts")
    command: str = Field(default="", description="command that measures side by side what is not certain, if anything")
    notes: list[str] = Field(default_factory=list, description="what else must be said")
    moebench: str = Field(description="version of moebench")
    time: str = Field(description="when the advice was made, UTC, ISO 8601")

    @property
    def complete(self) -> bool:
        """True if every phase has an option."""
        return all(phase.options for phase in self.phases)
