"""Observer of invariance: whether a token keeps its bits from run to run, and whatever batch it is in."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

import torch
from torch import Tensor

from ....kernels.kernel import Layer
from ....kernels.oracle import Result
from ....kernels.problem import InvalidProblem, Problem
from ....kernels.problem.routing import Routing
from ....kernels.problem.shard import Shard
from ....kernels.problem.tensors import Inputs
from ....kernels.question import LAYER
from ....results.record import Invariance, Sameness
from ..across_ranks import gather_floats, rank
from ..checks.accuracy import rounding_bound
from ..checks.other_batches import OtherBatch, other_batches
from ..checks.same_bits import DifferingRow, differing_rows, has_token_rows, row_words
from ..reference_check import call
from .observer import ObservedCall

TOKENS_CHOOSE = "softmax_topk"  # takes every number of tokens


class InvarianceObserver:
    """Compares a call with calls on other batches of its tokens, with their routes and in the same configuration.

    What is compared are outputs, and of the same call made again all gradients too. Where experts are shared, all ranks
    must observe together; each keeps its own tokens.
    """

    field = "invariance"

    def observe(self, observed: ObservedCall) -> Invariance | None:
        """Make the calls; None where there is no token, or a block in which a token's result is that of others too."""
        problem, question = observed.problem, observed.kernel.question
        if not problem.T or (problem.around is not None and not problem.around.by_token):
            return None
        guarantee = observed.kernel.guarantee(problem, observed.config)
        layers = {problem.T: observed.layer}

        def compared(of: Problem, layer: Layer, token_t: Tensor | slice) -> Result:
            result = call(of, layer, _picked(of, observed.inputs, token_t))
            return dataclasses.replace(result, y_TD=question.token_rows(of, result.y_TD))

        whole = compared(problem, observed.layer, slice(None))
        # A layer may write its next output to the same memory.
        whole = dataclasses.replace(whole, y_TD=whole.y_TD.clone())
        found: dict[str, Sameness] = {}
        for name, group in groupby(other_batches(problem, rank()), key=itemgetter(0)):
            findings = _Findings(problem, whole, with_gradients=name == "repeat")
            for _, batch in group:
                smaller = _of_tokens(problem, batch.T, given_routes=question is LAYER)
                if smaller is None:
                    continue
                if batch.T not in layers:
                    layers[batch.T] = observed.kernel.build(smaller, observed.config, observed.device)
                findings.add(batch, compared(smaller, layers[batch.T], batch.token_t))
            if findings.compared:
                found[name] = findings.sameness(guaranteed=name in guarantee.properties)
        return Invariance(**found, reason=guarantee.reason)


@dataclass
class _Findings:
    """The rows of a call's result that differed in any of the calls that it is compared with."""

    problem: Problem
    whole: Result
    with_gradients: bool
    compared: list[OtherBatch] = field(default_factory=list)
    first: DifferingRow | None = None
    tokens: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)
    distance: float = 0.0

    def add(self, batch: OtherBatch, again: Result) -> None:
        """Compare another call, which computed ``again`` for tokens of this rank."""
        shard, theirs = Shard.of(self.problem, rank()), self._tensors(again)
        for number, (name, tensor) in enumerate(self._tensors(self.whole).items()):
            token_t = batch.token_t.to(tensor.device)
            of_tokens = has_token_rows(name)
            differ = differing_rows(tensor[token_t] if of_tokens else tensor, theirs[name])
            if not len(differ.row_n):
                continue
            row_n = token_t[differ.row_n] + shard.tokens.start if of_tokens else differ.row_n + shard.experts.start
            found = DifferingRow(number, int(row_n.min()), len(self.compared))
            self.first = found if self.first is None else min(self.first, found)
            self.distance = max(self.distance, float(differ.distance_n.max()))
            if name == "y":
                self.tokens.update(row_n.tolist())
                self.changed.update(row_n[differ.distance_n > rounding_bound(self.problem.rounding)].tolist())
        self.compared.append(batch)

    def _tensors(self, result: Result) -> dict[str, Tensor]:
        return {"y": result.y_TD, **(result.gradients if self.with_gradients else {})}

    def sameness(self, *, guaranteed: bool) -> Sameness:
        """Return what all ranks together have found."""
        mine = dataclasses.astuple(self.first) if self.first else (math.inf,) * 3
        first_changed = min(self.changed, default=math.inf)
        everyone = gather_floats([*mine, len(self.tokens), self.distance, first_changed])
        tensor, row, comparison = min(tuple(of_rank[:3]) for of_rank in everyone)
        if math.isinf(tensor):
            return Sameness(guaranteed=guaranteed)
        changed = min(of_rank[5] for of_rank in everyone)
        name = [*self._tensors(self.whole)][int(tensor)]
        return Sameness(
            guaranteed=guaranteed,
            differs=row_words(name, int(row)),
            token=int(row) if name == "y" else None,
            where=self.compared[int(comparison)].words,
            tokens=int(sum(of_rank[3] for of_rank in everyone)),
            distance=max(of_rank[4] for of_rank in everyone),
            beyond_rounding=None if math.isinf(changed) else int(changed),
        )


def _of_tokens(problem: Problem, T: int, *, given_routes: bool) -> Problem | None:
    """Return the problem of so many of its tokens; where its router takes no such number, None or with another one.

    Which router it names is of no account where the routes are given.
    """
    try:
        return problem.replace(T=T)
    except InvalidProblem:
        return problem.replace(T=T, router=TOKENS_CHOOSE) if given_routes else None


def _picked(problem: Problem, inputs: Inputs, token_t: Tensor | slice) -> Inputs:
    """Return some tokens in new memory, with their routes; the weights are the same memory."""
    token_t = token_t.to(inputs.x_TD.device) if isinstance(token_t, Tensor) else token_t
    routing = inputs.routing
    found = Inputs(
        x_TD=inputs.x_TD.detach()[token_t].clone(),
        routing=Routing(
            ids_TK=routing.ids_TK[token_t].clone(),
            gates_TK=routing.gates_TK.detach()[token_t].clone(),
            experts=routing.experts,
        ),
        weights=inputs.weights.map(torch.detach),
        dy_TD=None if inputs.dy_TD is None else inputs.dy_TD[token_t].clone(),
    )
    return found.requires_grad_() if problem.mode == "train" else found
