"""Sets of inputs that timed calls go round. No set has the same values in two calls."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from ....kernels.oracle import OF_TOKENS, Result
from ....kernels.problem import Problem
from ....kernels.problem.routing import NO_ROUTE, Routing
from ....kernels.problem.shard import Shard
from ....kernels.problem.tensors import Inputs, Weights, is_of_layer
from .checksum import changed

LEAST_FACTOR = 0.5  # of the factors that new tokens are made with: neither zeros nor much larger than what was drawn


class TimedInputs:
    """Sets of inputs, each in memory of its own, except that the first has the drawn weights themselves.

    New values cost a copy of the tokens: x times a factor, or where that would be another kind of tokens (not
    ``scaled``) the same tokens in another order, and the same routes for other tokens. So every expert keeps
    its number of rows, and every call its work. ``used`` is the set of the last call. ``unexplained`` is True once
    weights were written to, and it is not known who did it.
    """

    def __init__(
        self, problem: Problem, drawn: Inputs, routed: Routing, *, count: int, rank: int, scaled: bool = True
    ) -> None:
        own = drawn.with_own_tokens()
        self._drawn = drawn
        self.sets = [own, *(own.clone() for _ in range(count - 1))]
        if problem.mode == "train":
            self.sets = [one.requires_grad_() for one in self.sets]
        self._scaled = scaled
        self.used = 0
        self.unexplained = False
        self._random = random.Random()  # noqa: S311  # a kernel that guessed the factors would gain nothing
        self._label_E, self._pair = _exchange(problem, routed, rank)
        self._posed = self._relabelled(drawn)
        self._exchanged: list[Inputs] = []
        self._versions: list[dict[str, int]] = []
        self.renew()

    def calls(self, compute: Callable[[Inputs], Result]) -> list[Callable[[], Result]]:
        """Return the calls that ``compute`` the result of each set."""
        return [partial(self._call, compute, index) for index in range(len(self.sets))]

    def _call(self, compute: Callable[[Inputs], Result], index: int) -> Result:
        self.used = index
        return compute(self.sets[index])

    @torch.no_grad()
    def renew(self, *, only: int | None = None) -> None:
        """Write values that they never had into the tokens of all sets, or of one."""
        drawn, routing = self._drawn, self._drawn.routing
        for one in self.sets if only is None else [self.sets[only]]:
            tokens, chosen = (self._random.randrange(max(size, 1)) for size in routing.ids_TK.shape)
            if self._scaled:
                torch.mul(drawn.x_TD, self._factor(), out=one.x_TD.detach())
            else:
                one.x_TD.copy_(drawn.x_TD.roll(tokens, 0))
            one.routing.ids_TK.copy_(routing.ids_TK.roll((tokens, chosen), (0, 1)))
            one.routing.gates_TK.copy_(routing.gates_TK.roll((tokens, chosen), (0, 1)))
            if drawn.dy_TD is not None:
                torch.mul(drawn.dy_TD, self._factor(), out=one.dy_TD)
        self._note()

    def _factor(self) -> float:
        return self._random.choice((-1, 1)) * self._random.uniform(LEAST_FACTOR, 1)

    @torch.no_grad()
    def pose(self, drawn: Inputs, *, only: int | None = None) -> None:
        """Write tokens that were drawn for the weights into all sets, or into one, with two experts exchanged.

        The result is known, and the values are new: the weights change places with the routes, so that y and the
        gradients of the tokens are those of the drawn inputs. A kernel that kept anything of these sets, routes or
        weights included, is wrong.
        """
        self._posed = self._relabelled(drawn)
        self._exchanged = self.sets if only is None else [self.sets[only]]
        for one in self._exchanged:
            posed = self._posed.of_tokens()
            for name, tensor in one.of_tokens().items():
                tensor.copy_(posed[name])
            self._exchange(one.weights.of_experts().named())
        self._note()

    @torch.no_grad()
    def withdraw(self) -> None:
        """Exchange the two experts of `pose` back."""
        for one in self._exchanged:
            self._exchange(one.weights.of_experts().named())

    def exchanged(self, result: Result) -> Result:
        """Return a result for drawn inputs as that of the posed ones; a second time restores it."""
        of_experts = (name for name in result.gradients if name not in OF_TOKENS and not is_of_layer(name))
        self._exchange({name: result.gradients[name] for name in of_experts})
        return result

    def written(self) -> list[str]:
        """Return the names of the inputs that torch has written to since they were renewed or posed."""
        return sorted(
            {
                name
                for one, versions in zip(self.sets, self._versions, strict=True)
                for name, tensor in one.everything().items()
                if tensor._version != versions[name]  # noqa: SLF001  # torch has no public name for the count
            }
        )

    def moved(self) -> list[str]:
        """Return the names of the tokens of the posed set of the last call that are not what was posed."""
        one, posed = self.sets[self.used].of_tokens(), self._posed.of_tokens()
        return [name for name, tensor in one.items() if not torch.equal(tensor, posed[name])]

    def changed_weights(self, before: Mapping[str, int]) -> list[str]:
        """Return the names of the weights of any set whose checksums are not those of ``before``."""
        names = self._drawn.weights.named()
        return sorted({name for one in self.sets for name in changed(one, before) if name in names})

    @torch.no_grad()
    def restore(self, weights: Weights) -> None:
        """Write the weights as they were drawn into all sets."""
        for one in self.sets:
            for name, tensor in one.weights.named().items():
                tensor.copy_(weights.named()[name])

    def _note(self) -> None:
        self._versions = [
            {name: tensor._version for name, tensor in one.everything().items()}  # noqa: SLF001
            for one in self.sets
        ]

    def _relabelled(self, drawn: Inputs) -> Inputs:
        """Return inputs with the routes that they have once the experts have changed places."""
        ids_TK = drawn.routing.ids_TK
        label_E = torch.tensor([*self._label_E, NO_ROUTE], dtype=torch.int32, device=ids_TK.device)
        routing = dataclasses.replace(drawn.routing, ids_TK=label_E[ids_TK.long()])  # −1 is the last
        return dataclasses.replace(drawn, routing=routing)

    def _exchange(self, tensors: Mapping[str, Tensor]) -> None:
        if self._pair is not None:
            one, other = self._pair
            for tensor in tensors.values():
                kept = tensor[one].clone()
                tensor[one] = tensor[other]
                tensor[other] = kept


def _exchange(problem: Problem, routed: Routing, rank: int) -> tuple[list[int], tuple[int, int] | None]:
    """Return the new labels of all experts, and the two that a rank exchanges.

    They are those of its own with the most and the fewest rows. A rank with one expert exchanges none.
    """
    counts, label, mine = routed.counts_E().tolist(), list(range(problem.E)), None
    for of_rank in range(problem.ranks):
        experts = Shard.of(problem, of_rank).experts
        order = sorted(range(experts.start, experts.stop), key=lambda expert: counts[expert])
        if len(order) > 1:
            label[order[0]], label[order[-1]] = order[-1], order[0]
            if of_rank == rank:
                mine = (order[0] - experts.start, order[-1] - experts.start)
    return label, mine
