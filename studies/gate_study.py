"""Study of the gate's rule: how often it and other rules are right, in noise of known shapes and in recorded noise.

`nox -s gate-study` runs it; docs/regression.md shows what it prints. Every number is from fixed seeds. `moebench gate
--self` records the noise of a machine.

    python studies/gate_study.py [RECORDS...]     files of equal processes, by default those of results/recorded
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from gate_rules import RULES, Score, study
from noise import SHAPES, Noise, TooFew, recorded, spreads

from moebench.reports.tables.text_table import markdown
from moebench.results.record import Record
from moebench.results.record.store import StoreError, load

RECORDED = Path(__file__).parents[1] / "results" / "recorded"
COMPARISONS = 1000  # of 20 points each, for every number
NOISE = "noise between processes"
QUESTIONS: Mapping[str, Callable[[Score], float]] = {
    "False alarms per comparison of 20 equal points": lambda score: score.false_alarms,
    "A slowdown of 3 % found": lambda score: score.found[0.03],
    "A slowdown of 5 % found": lambda score: score.found[0.05],
}


def about(path: Path, records: Sequence[Record]) -> str:
    """Return a line on how far the processes of a file of records spread."""
    processes, pairs = ([_percent(one) for one in sorted(found)] for found in spreads(records))
    return (
        f"{path}: {len(processes)} points, whose processes' medians spread by {processes[0]} to {processes[-1]}, "
        f"and the ratios of pairs by {pairs[0]} to {pairs[-1]}\n"
    )


def tables(noises: Mapping[str, Noise], comparisons: int) -> Iterator[str]:
    """Yield a table for each of `QUESTIONS` with a column for every rule, and one about the gate alone."""
    scores = {name: study(noise, RULES, comparisons) for name, noise in noises.items()}
    for title, share in QUESTIONS.items():
        rows = [[name, *(_percent(share(score)) for score in of_rules.values())] for name, of_rules in scores.items()]
        yield f"{title}:\n\n{markdown([NOISE, *RULES], rows, words=[NOISE])}\n"
    yield f"Of the gate:\n\n{_of_the_gate({name: of_rules['gate'] for name, of_rules in scores.items()})}"


def _of_the_gate(scores: Mapping[str, Score]) -> str:
    """Return how often the gate calls the first point unclear, and how many processes it takes."""
    titles = [NOISE, *(f"{what}, {how}" for what in ("unclear", "processes a side") for how in ("equal", "3 %", "5 %"))]
    rows = [
        [name, *(_percent(share) for share in score.unclear.values()), *(f"{n:.0f}" for n in score.processes.values())]
        for name, score in scores.items()
    ]
    return markdown(titles, rows, words=[NOISE])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def main(arguments: Sequence[str]) -> None:
    """Print the study of the known shapes of noise, and of the noise in the files of records."""
    noises = dict(SHAPES)
    for path in [Path(argument) for argument in arguments] or sorted(RECORDED.glob("cpu-equal*.jsonl")):
        try:
            records = load(path).records
            noises[path.stem] = recorded(records)
        except (StoreError, TooFew) as error:
            sys.exit(f"{path}: {error}")
        sys.stdout.write(f"{about(path, records)}\n")
    for table in tables(noises, COMPARISONS):
        sys.stdout.write(f"{table}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
