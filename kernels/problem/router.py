"""The interface of a router: one small class in one file of ``kernels/problem/routers/``, with typed parameters.

A router makes ids and gate weights of what it sees of its tokens: logits by default, the product of the tokens with
its weight (E, D). Loads give logits that were not computed of any tokens, so that every router can be put under every
load.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...common.plugins import Catalog
from .parametrised import Parametrised, read_plugin

if TYPE_CHECKING:
    from torch import Generator, Tensor, dtype

    from .problem import Problem


@dataclass(frozen=True, kw_only=True)
class RouterInputs:
    """Inputs of a router: T tokens as it sees them, all on one device.

    ``logits_TE`` have any floating dtype, and a column for every expert, then for every extra column of the router
    (`Router.extra_columns`). ``token_T`` are integer ids, for routers that read them. ``bias_E`` float32
    are selection biases, ``noise_TE`` raw scales of noise; where they are None a router has its own, as its file says.
    Random numbers come from ``generator``, by default that of the device.
    """

    logits_TE: Tensor
    token_T: Tensor | None = None
    bias_E: Tensor | None = None
    noise_TE: Tensor | None = None
    generator: Generator | None = None

    def tokens(self) -> Tensor:
        """Return the ids of the tokens, integers (T,).

        Raises:
            ValueError: when there are none, not one for each token, or no integers.
        """
        found, tokens = self.token_T, len(self.logits_TE)
        if found is None:
            raise ValueError(f"the router chooses by token ids: give {tokens} of them, int64, one for each token")
        if found.shape != (tokens,) or found.dtype not in _integers():
            raise ValueError(
                f"token ids are {found.dtype} {tuple(found.shape)}: give {tokens} of them, int64, one for each token"
            )
        return found


def _integers() -> tuple[dtype, ...]:
    import torch  # noqa: PLC0415  # problems are made where torch is not wanted

    return (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True)
class Router(Parametrised, ABC):
    """The rule by which tokens choose experts. Its name is the name of its file; the file's ``router`` is its class.

    ``of_batch`` says that the choices of a token depend on the other tokens: such a router takes no recorded load.
    ``leaves_out`` says that tokens may have different numbers of routes, so that some routes are absent.
    ``reads_token_ids`` says that it needs `RouterInputs.token_T`. ``frozen`` names its parameters that are never
    trained.
    """

    of_batch: ClassVar[bool] = False
    reads_token_ids: ClassVar[bool] = False
    frozen: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        """Choose experts for every token, its first choice first, and weight them.

        Returns ids int32 (T, W) and gates float32 (T, W), differentiable in the logits. W is K, or, where a token may
        have more or fewer routes, as many as the token with the most has, at least one. An id of −1 is no route; an id
        of E or more is an extra column's. No token has an expert twice. An expert whose logit is −inf is never chosen
        while others are left; of equal experts the lower index comes first.
        """

    def probabilities(self, logits_TE: Tensor) -> Tensor:
        """Return the share of each expert in each token's scores, float32 (T, E), as balance losses use it."""
        return logits_TE.float().softmax(-1)

    def shapes(self, *, D: int, E: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of its parameters by name, for tokens of width D."""
        return {"weight": (E + self.extra_columns, D)}

    def project(self, x_TD: Tensor, parameters: Mapping[str, Tensor], *, E: int) -> RouterInputs:
        """Return the inputs of `route` for tokens (T, D) and so many experts, in float32."""
        return RouterInputs(logits_TE=x_TD.float() @ parameters["weight"].float().mT)

    def refuses(self, problem: Problem) -> str | None:
        """Return None, or why it cannot route this problem, naming the constraint, the value and the remedy."""
        return None

    @property
    def extra_columns(self) -> int:
        """Number of logits beyond those of the experts, of choices that cost nothing."""
        return 0

    @property
    def leaves_out(self) -> bool:
        """True if tokens may have different numbers of routes."""
        return False

    @property
    def follows_load(self) -> bool:
        """True if the chosen experts are those of the K largest logits, as `popularity` assumes."""
        return True

    def for_fewer_experts(self) -> Router:
        """Return the router for a part of the experts, whose routes exist already: it limits and leaves out nothing."""
        return Router.parse("softmax_topk") if self.of_batch or self.leaves_out else self

    @staticmethod
    def parse(spec: str) -> Router:
        """Read a text such as ``softmax_topk`` or ``sigmoid_topk:groups=8,top_groups=4,scale=2.5``.

        Raises:
            ValueError: naming the text, what is wrong with it, and what it may be.
        """
        return read_plugin(ROUTERS, str(spec))


ROUTERS: Catalog[type[Router]] = Catalog("router", f"{__package__}.routers", "router")
