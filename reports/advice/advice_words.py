"""Sentences and cells of an advice: the same on a page, in Markdown and in a terminal.

An advice may come from records of anywhere, so that every text of theirs is made one printable line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ...results.record.advice import (
    Advice,
    AdviceSource,
    Certainty,
    DispatchOption,
    ExpertMemory,
    Margin,
    PhaseAdvice,
)
from ..numbers import number, number_of, optional, plain

REASON: Final = 300
"""Characters of a reason that are shown: one may hold the output of a compiler. JSON has it whole."""
MIB, GIB = 2**20, 2**30
SOURCES: Final = {
    AdviceSource.measured: "measured",
    AdviceSource.interpolated: "interpolated",
    AdviceSource.tuned_table: "tuned table",
    AdviceSource.predicted: "predicted",
}


def title(advice: Advice) -> str:
    """Return the layer, the device and its memory."""
    memory = "" if advice.memory_bytes is None else f", {number(advice.memory_bytes / GIB)} GiB"
    return f"{plain(advice.layer)} on {plain(advice.device)}{memory}"


def setting(advice: Advice) -> str:
    """Return the layer's sizes and how it is used."""
    problem = advice.problem
    sizes = " ".join(f"{letter}={problem[letter]}" for letter in "DFEK")
    factor = problem["capacity_factor"]
    capacity = f"capacity factor {factor:g}" if isinstance(factor, int | float) else "dropless"
    layers = f"{advice.experts.layers} MoE layers" if advice.experts.layers else "one layer"
    price = "" if advice.price_per_hour is None else f", {number(advice.price_per_hour)} an hour"
    return f"{sizes}, {problem['dtype']}, {capacity}, load {plain(str(problem['load']))}, {layers}{price}"


def share(value: float) -> str:
    """Return a share as per cent."""
    return f"{number(100 * value)} %"


def config_words(config: dict[str, object]) -> str:
    """Return a configuration as ``name=value``."""
    return plain(" ".join(f"{name}={value}" for name, value in sorted(config.items())))


def phase_answer(phase: PhaseAdvice) -> str:
    """Return what to use in a phase, and in a word how sure that is."""
    best, margin = phase.advised, phase.margin
    use = f"there is nothing to advise: {plain(phase.reason, REASON)}" if best is None else f"use {plain(best.kernel)}"
    if margin is not None:
        tied = f" with {plain(margin.over)}" if margin.certainty is Certainty.tied else ""
        use = f"{use} ({margin.certainty.value}{tied})"
    return f"{phase.title}, {share(phase.share)} of the tokens: {use}"


def details(phase: PhaseAdvice) -> Iterator[str]:
    """Yield facts about the advised dispatch: its configuration, source and margin, and what is left out."""
    best = phase.advised
    if best is None:
        return
    if config := config_words(dict(best.config)):
        yield f"configuration: {config}"
    yield f"source: {plain(best.basis)}"
    if best.model_seconds is not None:
        yield f"time of a call: {number(1e3 * best.seconds)} ms a layer, {number(1e3 * best.model_seconds)} ms in all"
    yield f"margin: {margin_words(phase.margin)}"
    if phase.tied:
        yield f"tied with it: {tied_words(phase)}"
    if phase.unmeasured:
        listed = ", ".join(f"{plain(one.kernel)} {number(1e3 * one.seconds)} ms" for one in phase.unmeasured)
        yield f"not measured, and predicted to be faster: {listed}"
    if phase.left_out:
        yield f"left out: {'; '.join(plain(one, REASON) for one in phase.left_out)}"


def tied_words(phase: PhaseAdvice) -> str:
    """Return the dispatches that are tied with the advised one, and which of all these needs the least memory."""
    named = ", ".join(plain(option.kernel) for option in phase.tied)
    known = [(option.peak_bytes, option) for option in (phase.options[0], *phase.tied) if option.peak_bytes is not None]
    if len(known) <= len(phase.tied):
        return named
    peak, least = min(known, key=lambda pair: pair[0])
    return f"{named}; of them all {plain(least.kernel)} needs the least memory, {number(peak / MIB)} MiB"


def margin_words(margin: Margin | None) -> str:
    """Return the margin over the second best, and how sure it is."""
    if margin is None:
        return "there is no other dispatch to compare with"
    ends = "" if margin.low is None or margin.high is None else f" ({number(margin.low)} to {number(margin.high)})"
    longer = f"{plain(margin.over)} takes {number(margin.ratio)} times as long{ends}"
    return f"{longer}: {margin.certainty.value}, {margin.why}"


def beside(option: DispatchOption, best: DispatchOption) -> str:
    """Return the time of an option beside that of the advised one, or that the two are tied."""
    if option is best:
        return "advised"
    return "tied" if option.certainty is Certainty.tied else f"+{share(option.seconds / best.seconds - 1)}"


def mix_words(advice: Advice) -> Iterator[str]:
    """Yield sentences about the mix as a whole: a million tokens, and one dispatch for everything."""
    mix = advice.mix
    if mix is None:
        yield "the mix has no total, as a phase has no dispatch"
        return
    rate = mix.model_tokens_per_s if mix.model_tokens_per_s is not None else mix.tokens_per_s
    through = "all MoE layers" if mix.model_tokens_per_s is not None else "one layer"
    price = "" if mix.cost_per_million is None else f", a million tokens cost {number(mix.cost_per_million)}"
    sources = " and ".join(SOURCES[source] for source in mix.sources)
    yield f"the mix: {number(rate)} tokens/s through {through}{price} ({sources})"
    single = mix.single
    if single is None:
        yield "no dispatch can run all phases"
    elif single.certainty is None:
        if len(advice.phases) > 1:
            yield f"one dispatch for all phases: {plain(single.kernel)}, which is the advised one in each"
    else:
        yield (
            f"one dispatch for all phases: {plain(single.kernel)}, which takes {share(single.loss)} more time: "
            f"{single.certainty.value}, {plain(single.why)}"
        )


def size_words(advice: Advice) -> str:
    """Return the parameters and FLOPs of the experts, in all and activated by a token."""
    size = advice.experts
    return (
        f"routed experts: {_large(size.total_parameters)} parameters, of which a token activates "
        f"{_large(size.activated_parameters)}, {_large(size.flops_per_token)} FLOPs in a forward"
    )


def memory_cells(one: ExpertMemory, advice: Advice) -> list[str]:
    """Return the cells of a format: bits, format, memory of the experts, whether they fit, the largest that does."""
    fits = {None: "unknown", True: "yes", False: "no"}[one.fits]
    largest = "none" if one.largest is None else f"{plain(one.largest)} ({number((one.largest_bytes or 0) / GIB)} GiB)"
    cells = [str(one.bits), one.number_format, number(one.expert_bytes / GIB), number(one.activated_bytes / GIB), fits]
    return [*cells, largest] if advice.experts.family else cells


def memory_rows(advice: Advice) -> list[list[str]]:
    """Return the cells of every format."""
    return [memory_cells(one, advice) for one in advice.experts.memory]


def longest(phase: PhaseAdvice) -> float:
    """Return the longest time of a phase, the upper ends of intervals included, for times that are drawn to scale."""
    return max(option.seconds if option.high_s is None else option.high_s for option in phase.options)


def memory_headings(advice: Advice) -> list[str]:
    """Return the headings of `memory_cells`."""
    headings = ["bits", "format", "experts\n(GiB)", "activated\n(GiB)", "fits"]
    return [*headings, f"largest {advice.experts.family} that fits"] if advice.experts.family else headings


def option_cells(option: DispatchOption, best: DispatchOption, advice: Advice) -> list[str]:
    """Return the cells of an option: its dispatch, times, memory, cost and source."""
    rate = option.model_tokens_per_s if option.model_tokens_per_s is not None else option.tokens_per_s
    peak = None if option.peak_bytes is None else option.peak_bytes / MIB
    cells = [plain(option.kernel), number(1e3 * option.seconds), number(rate), optional(peak)]
    if advice.price_per_hour is not None:
        cells.append(optional(option.cost_per_million))
    return [*cells, beside(option, best), SOURCES[option.source]]


def option_headings(advice: Advice) -> list[str]:
    """Return the headings of `option_cells`."""
    through = "model" if advice.experts.layers else "layer"
    headings = ["dispatch", "time\n(ms)", f"tokens/s\n({through})", "peak\n(MiB)"]
    if advice.price_per_hour is not None:
        headings.append("cost per\nmillion")
    return [*headings, "beside\nadvised", "source"]


def explanations(advice: Advice) -> Sequence[str]:
    """Return what the figures are, in sentences."""
    said = ["time is that of one call of one layer, peak what it allocates beyond tokens and weights"]
    if advice.experts.layers:
        said.append(f"tokens/s are through all {advice.experts.layers} MoE layers of the model")
    said.append("experts fit where their weights alone are no more than the device's memory")
    return [*said, *map(plain, advice.notes)]


def _large(value: int) -> str:
    """Return a number of parameters or FLOPs, in millions or billions from there on."""
    for unit, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if value >= unit:
            return f"{number(value / unit)} {word}"
    return number_of(value)
