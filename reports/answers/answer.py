"""The answer of a section in sentences: what its numbers support, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ...results.record import Sameness, Status
from ...results.references import NOT_COMPETING, PARTS, REFERENCES
from ..numbers import counted, exact, number, number_of, plain, span, status_words
from ..row import Facet, Rank, Row, RowPlace, leading, places
from ..section import Section

DEPENDENCES = (
    "the same by construction",
    "the same as far as was observed",
    "rounded differently",
    "changed by the other tokens",
)
"""How a token's result depends on its batch, from not at all to most."""

NAMED = 3  # kernels that a sentence names; more would be a table


@dataclass(frozen=True)
class Answer:
    """One sentence that answers the suite's question as far as times can, and sentences that qualify it."""

    sentence: str
    details: list[str]


def answer(section: Section) -> Answer:
    """Compute the answer from the section's rows alone.

    References never win. Kernels whose 95 % interval reaches into the fastest one's are tied with it. A
    point at which one kernel passed is no contest. Where bits were compared, they are what the suite asks for.
    """
    grouped = places(section.rows)
    best = {place: row for place, rows in grouped.items() if (row := _best(rows))}
    bits = _bits(section.rows)
    if not best:
        sentences = [bits, f"No competing kernel passed: {_endings(section.rows)}."]
        return _first([sentence for sentence in sentences if sentence])
    shares = [_share_of_part(grouped, name, words) for name, words in PARTS.items()]
    details = [
        *shares,
        _alone(grouped),
        *(_against_reference(best, name, words) for name, words in REFERENCES.items()),
        _bound(section),
        _growth(best, section.axis),
        _drops(best),
        _failures(section.rows),
    ]
    details = [detail for detail in details if detail]
    if _contested(grouped) or not any(shares):  # else the question is about the part
        clauses = [_winners(grouped), _against_baseline(grouped, best, section.baseline)]
        details = ["; ".join(filter(None, clauses)) + ".", *details]
    return _first([bits, *details] if bits else details)


def _first(sentences: list[str]) -> Answer:
    return Answer(sentences[0], sentences[1:])


def _share_of_part(grouped: dict[RowPlace, list[Row]], name: str, words: str) -> str:
    """Return from where to where the time of a part is over that of the fastest layer."""
    found = {
        place: row.share_of_layer
        for place, rows in grouped.items()
        for row in leading(rows).values()
        if row.record.kernel == name and row.share_of_layer is not None
    }
    if not found:
        return ""
    least, most = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    shares = span([100 * share for share in found.values()])
    where = "" if least == most else f", least at {exact(least.x)} and most at {exact(most.x)}"
    return f"{words[0].upper()}{words[1:]} takes {shares} % of the time of the fastest layer{where}."


def _best(rows: list[Row]) -> Row | None:
    return next((row for row in leading(rows).values() if row.competes), None)


def _winners(grouped: dict[RowPlace, list[Row]]) -> str:
    """Return which kernel is fastest at how many of the contested points."""
    won = Counter(row.kernel for row in _ranked_as(grouped, Rank.fastest))
    ties = _ranked_as(grouped, Rank.tied)
    tied_places = len({row.place for row in ties})
    contests = won.total() + tied_places
    if not contests:
        return _uncontested(grouped)
    tied = sorted({row.kernel for row in ties})
    if not won:
        return f"No kernel is fastest alone: {_joined(tied)} are tied at {_of(tied_places, contests)}"
    (first, count), *others = won.most_common()
    parts = [f"{first} is fastest at {_of(count, contests)}"]
    parts += [f"{kernel} at {number_of(times)}" for kernel, times in others[: NAMED - 1]]
    if rest := others[NAMED - 1 :]:
        parts.append(f"{counted(len(rest), 'other kernel')} at {number_of(sum(times for _, times in rest))}")
    winners = _joined(parts)
    if not tied:
        return winners
    who = _joined(tied) if len(tied) <= NAMED else f"{len(tied)} kernels"
    return f"{winners}, with {who} tied at {number_of(tied_places)}"


def _uncontested(grouped: dict[RowPlace, list[Row]]) -> str:
    alone = _ranked_as(grouped, Rank.alone)
    passed = sorted({row.kernel for row in alone})
    if {row.kernel for rows in grouped.values() for row in rows if not row.reference} == set(passed[:1]):
        return (
            f"{passed[0]} was measured alone and passed at {number_of(len(alone))} of {counted(len(grouped), 'point')}"
        )
    return f"No point has two kernels that passed, so nothing is compared; times exist for {_joined(passed)} only"


def _against_baseline(grouped: dict[RowPlace, list[Row]], best: dict[RowPlace, Row], baseline: str) -> str:
    """Compare the baseline's median with the fastest one, at the points that both passed."""
    if not _contested(grouped) or baseline in ("", *NOT_COMPETING):
        return ""
    ratios, beaten = [], False
    for place, row in best.items():
        rival = leading(grouped[place]).get(baseline)
        if rival and rival.median and row.median:
            ratios.append(rival.median.value / row.median.value)
            beaten = beaten or rival.rank is Rank.slower
    if not ratios:
        return f"the baseline {baseline} passed nowhere"
    limits = "" if len(ratios) == len(best) else f" at the {counted(len(ratios), 'point')} it passed"
    if not beaten:
        return f"nothing is faster than the baseline {baseline}{limits}"
    return f"the baseline {baseline} takes {span(ratios, '×')} the fastest time{limits}"


def _contested(grouped: dict[RowPlace, list[Row]]) -> bool:
    return any(_ranked_as(grouped, rank) for rank in (Rank.fastest, Rank.tied))


def _alone(grouped: dict[RowPlace, list[Row]]) -> str:
    alone, all_places = len(_ranked_as(grouped, Rank.alone)), len(grouped)
    if alone in (0, all_places):
        return ""
    return f"At {_of(alone, all_places)} only one kernel passed, which is no contest."


def _against_reference(best: dict[RowPlace, Row], name: str, words: str) -> str:
    """Return the share of a reference's useful FLOP/s that the fastest kernel reaches, where both passed."""
    shares = [100 * share for row in best.values() if (share := row.rate_over(name))]
    return f"The fastest reaches {span(shares, ' %')} of the rate of {words} ({name})." if shares else ""


def _bound(section: Section) -> str:
    shares = [(row.share, row) for row in section.rows if row.competes and row.share is not None]
    if not shares:
        return ""
    share, row = max(shares, key=lambda pair: pair[0])
    place = row.place.title(section.axis)
    return f"The nearest to the lower bound is {row.kernel} at {place}: {number(100 * share)} %."


def _growth(best: dict[RowPlace, Row], axis: str) -> str:
    """Return how the fastest time changes from the first to the last number on the axis."""
    lines: dict[Facet, list[Row]] = {}
    for place, row in best.items():
        if place.numeric:
            lines.setdefault(place.facet, []).append(row)
    ends = [(rows[0], rows[-1]) for rows in lines.values() if len(rows) > 1]
    times = [(first.median.value, last.median.value) for first, last in ends if first.median and last.median]
    if not times:
        return ""
    if len(times) > 1:
        ratios = [last / first for first, last in times]
        return (
            f"From the first to the last point along {axis}, the fastest time changes by a factor of {span(ratios)} "
            f"on {counted(len(times), 'line')}."
        )
    ((start, end),) = ends
    ((first, last),) = times
    return (
        f"From {axis} = {exact(start.place.x)} to {exact(end.place.x)}, the fastest time goes from {number(first)} ms "
        f"to {number(last)} ms ({number(last / first)}×)."
    )


def _drops(best: dict[RowPlace, Row]) -> str:
    rates = [100 * row.drop_rate for row in best.values() if row.drop_rate is not None]
    return f"The capacity drops {span(rates, ' %')} of the routed rows." if any(rates) else ""


def _bits(rows: list[Row]) -> str:
    """Return whether tokens have the same bits in every batch and in every run, where that was compared."""
    compared = [(row, row.record.invariance) for row in rows if row.record.invariance]
    if not compared:
        return ""
    parts = []
    for where in ("without a capacity", "with a capacity", "of the router alone"):
        seen: dict[str, list[Sameness]] = {}
        for row, found in compared:
            capacity = "without a capacity" if row.record.problem.get("capacity_factor") is None else "with a capacity"
            of_batches = [one for one in (found.batch, found.alone, found.order) if one]
            if row.reference and where == "of the router alone":
                seen.setdefault(plain(str(row.record.problem.get("router"))), []).extend(of_batches)
            elif not row.reference and where == capacity:
                seen.setdefault(row.kernel, []).extend(of_batches)
        groups: dict[str, list[str]] = {}
        for kernel, several in sorted(seen.items()):
            groups.setdefault(_dependence(several), []).append(kernel)
        said = [f"{words} with {_few(groups[words])}" for words in DEPENDENCES if words in groups]
        parts += [f"{where}, {', '.join(said)}"] if said else []
    unsteady = sorted({row.kernel for row, found in compared if found.repeat and not found.repeat.same})
    again = f"Two runs differ with {_few(unsteady)}." if unsteady else "Two runs never differ."
    return f"From batch to batch a token's result is, {'; '.join(parts)}. {again}"


def _dependence(seen: list[Sameness]) -> str:
    """Return one of `DEPENDENCES`."""
    if all(one.same for one in seen):
        return DEPENDENCES[0] if all(one.guaranteed for one in seen) else DEPENDENCES[1]
    return DEPENDENCES[2] if all(one.beyond_rounding is None for one in seen) else DEPENDENCES[3]


def _few(kernels: list[str]) -> str:
    if len(kernels) <= NAMED + 1:
        return _joined(kernels)
    return _joined([*kernels[:NAMED], f"{number_of(len(kernels) - NAMED)} others"])


def _failures(rows: list[Row]) -> str:
    """Return what did not pass. A refusal or too little memory is mentioned but is not a failure."""
    count = Counter(row.record.status for row in rows)
    if count[Status.passed] == len(rows):
        return f"All {counted(len(rows), 'trial')} passed." if len(rows) > 1 else "The one trial passed."
    failed = [f"{number_of(times)} {status_words(status)}" for status, times in count.items() if status.bad]
    total = sum(times for status, times in count.items() if status.bad)
    parts = [f"{number_of(total)} of {counted(len(rows), 'trial')} failed ({', '.join(failed)})"] if failed else []
    if memory := count[Status.out_of_memory]:
        parts.append(f"{number_of(memory)} ran out of memory")
    if refused := count[Status.unsupported]:
        parts.append(f"{number_of(refused)} {'was' if refused == 1 else 'were'} refused as unsupported")
    return "; ".join(parts if failed else [f"None of {counted(len(rows), 'trial')} failed", *parts]) + "."


def _endings(rows: list[Row]) -> str:
    count = Counter(status_words(row.record.status) for row in rows if not row.reference)
    return ", ".join(f"{number_of(times)} {words}" for words, times in count.items()) or "there are no trials"


def _ranked_as(grouped: dict[RowPlace, list[Row]], rank: Rank) -> list[Row]:
    return [row for rows in grouped.values() for row in rows if row.rank is rank]


def _of(count: int, total: int) -> str:
    if total == 1:
        return "the one point compared"
    return f"all {number_of(total)} points" if count == total else f"{number_of(count)} of {number_of(total)} points"


def _joined(parts: Iterable[str]) -> str:
    *firsts, last = parts
    return f"{', '.join(firsts)} and {last}" if firsts else last
