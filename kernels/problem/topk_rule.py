"""Rules of top-k routers as data: how scores are made of logits, how K experts are chosen, and what they weigh.

Every router whose tokens choose their K best experts is one such rule, so that one function serves them all.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from .load import Load
from .parametrised import parameter
from .router import Router, RouterInputs

if TYPE_CHECKING:
    from torch import Tensor

    from .problem import Problem

Score = Literal["softmax", "sigmoid", "sqrt_softplus"]
SCORES: tuple[Score, ...] = get_args(Score)
MOST_GROUPS = 4096
LARGEST_LOGIT = float(np.finfo(np.float32).max)
SET = 8
"""Columns whose maximum stands for them (`_largest`)."""
KEY_ERROR = 2.0**-20
"""Error of keys in float32, as a part of 1 + the largest score + the largest bias.

In exp and log1p it is up to 2^-23 of the result, in each of the at most four roundings around them 2^-24.
"""


@dataclass(frozen=True, kw_only=True)
class TopkRule:
    """A rule for logits z (T, E) and biases b (E,), zero by default.

    The ``score`` s is softmax(z), the logistic function of z, or the square root of log(1 + exp z). Selection is by
    s + b, or with ``selects_logits`` by z + b. With ``groups`` above 1 experts form that many groups of equal size, and
    a token chooses within the ``top_groups`` of them whose ``group_best`` best selection scores have the largest sums.

    Gates are the scores of the chosen, without b: divided by their sum if ``renormalise``, then times ``scale``. The
    last ``shared`` columns of z are of shared experts: none of them is chosen, and the sum has their scores too.
    """

    score: Score
    selects_logits: bool = False
    groups: int = 1
    top_groups: int = 1
    group_best: int = 1
    renormalise: bool = False
    scale: float = 1.0
    shared: int = 0

    def compares_scores(self, *, biased: bool) -> bool:
        """Return whether selection needs scores: all rise with the logit, and no two different logits are equal."""
        return not self.selects_logits and (biased or (self.groups > 1 and self.group_best > 1))


def choose(rule: TopkRule, logits_TE: Tensor, bias_E: Tensor | None, K: int) -> Tensor:
    """Return the ids, int64 (T, K), of the experts with the largest selection scores within the best groups.

    Of equal selection scores the larger logit comes first, then the lower index: far from 0 the scores of different
    logits are equal in float32. NaN is above all numbers.

    On the CPU only tokens with scores that are equal, or nearly so, are sorted in full. On another device all are, as
    the host would wait for the number of those.
    """
    logits_TE = logits_TE.detach()[:, : logits_TE.shape[1] - rule.shared]
    if logits_TE.device.type != "cpu" or not logits_TE.numel() or not 0 < K <= logits_TE.shape[1]:
        return _sorted_choice(rule, logits_TE, bias_E, K)
    ids_TK, sure_T = _selected_choice(rule, logits_TE, bias_E, K)
    if not bool(sure_T.all()):
        unsure_T = ~sure_T
        ids_TK[unsure_T] = _sorted_choice(rule, logits_TE[unsure_T], bias_E, K)
    return ids_TK


def _sorted_choice(rule: TopkRule, logits_TE: Tensor, bias_E: Tensor | None, K: int) -> Tensor:
    key_TE = _exact_keys(rule, logits_TE, bias_E)
    if rule.groups > 1:
        key_TGS = key_TE.unflatten(-1, (rule.groups, -1))
        best_TG = _group_scores(rule, key_TGS)
        kept_TG = best_TG.sort(dim=-1, descending=True, stable=True).indices[:, : rule.top_groups]
        left_out_TG = best_TG.new_ones(best_TG.shape).bool().scatter(-1, kept_TG, value=False)
        # An expert of −inf in a kept group still comes before all of the groups that are left out.
        key_TGS = key_TGS.clamp(min=_least(key_TGS))
        key_TE = key_TGS.masked_fill(left_out_TG.unsqueeze(-1), -math.inf).flatten(-2)
    by_logit_TE = logits_TE.sort(dim=-1, descending=True, stable=True).indices
    order_TE = key_TE.gather(-1, by_logit_TE).sort(dim=-1, descending=True, stable=True).indices
    return by_logit_TE.gather(-1, order_TE[:, :K])


def _selected_choice(rule: TopkRule, logits_TE: Tensor, bias_E: Tensor | None, K: int) -> tuple[Tensor, Tensor]:
    """Return ids (T, K), and for each token whether they are sure: no keys that decide are nearer than their errors."""
    key_TE, error = _near_keys(rule, logits_TE, bias_E)
    if rule.groups == 1:
        largest_TK, ids_TK = _largest(key_TE, min(K + 1, key_TE.shape[1]))
        return ids_TK[:, :K].contiguous(), _apart(largest_TK, error)
    key_TGS = key_TE.unflatten(-1, (rule.groups, -1))
    best_TG, group_TG = _topk(_group_scores(rule, key_TGS), rule.top_groups + 1)
    kept_TG = group_TG[:, :-1]
    first_T = kept_TG.new_full((len(key_TE),), rule.groups).cumsum(0) - rule.groups
    kept_TE = key_TGS.flatten(0, 1).index_select(0, (first_T[:, None] + kept_TG).flatten()).view(len(key_TE), -1)
    largest_TK, place_TK = _largest(kept_TE, min(K + 1, kept_TE.shape[1]))
    size, place_TK = key_TGS.shape[-1], place_TK[:, :K]
    ids_TK = kept_TG.gather(-1, place_TK // size) * size + place_TK % size
    return ids_TK, _apart(best_TG[:, -2:], rule.group_best * error) & _apart(largest_TK, error)


def _exact_keys(rule: TopkRule, logits_TE: Tensor, bias_E: Tensor | None) -> Tensor:
    """Return what selection compares, (T, E); −inf for an expert whose logit is."""
    if not rule.compares_scores(biased=bias_E is not None):
        return logits_TE if bias_E is None else logits_TE.float() + bias_E
    score_TE = selection_scores(rule, logits_TE)
    return (score_TE if bias_E is None else score_TE + bias_E).masked_fill(logits_TE.isneginf(), -math.inf)


def _near_keys(rule: TopkRule, logits_TE: Tensor, bias_E: Tensor | None) -> tuple[Tensor, float]:
    """Return keys float32 and the largest error of one, which is NaN if a key is: float32 scores take less time."""
    if rule.score == "softmax" or not rule.compares_scores(biased=bias_E is not None):
        key_TE = _exact_keys(rule, logits_TE, bias_E).float()
        # A sum with NaN is NaN; so is one of both infinities, for which all tokens are sorted as well.
        return key_TE, math.nan if bool(key_TE.sum().isnan()) else 0.0
    z_TE = logits_TE.float()
    key_TE = z_TE.sigmoid() if rule.score == "sigmoid" else _softplus(z_TE).sqrt_()
    most = 1 + float(key_TE.amax())
    if bias_E is not None:
        most += float(bias_E.abs().amax())
        key_TE += bias_E
    if math.isinf(z_TE.amin()):
        key_TE.masked_fill_(z_TE.isneginf(), -math.inf)
    return key_TE, most * KEY_ERROR


def _apart(falling_TK: Tensor, error: float) -> Tensor:
    """Return where no two neighbours can be equal or change places, (T,). Equal infinities count as equal."""
    return (falling_TK[:, :-1] - falling_TK[:, 1:] > 2 * error).all(-1)


def _largest(key_TE: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest keys, falling, and their columns; of equal keys any.

    They are in k of the sets of columns with the largest maxima: beside a key in another set there are k as large.
    Where a set for each of the k is a small part of the columns, there are fewer keys to select from.
    """
    sets = key_TE.shape[1] // SET
    if key_TE.shape[1] % SET or sets < 3 * k:
        return _topk(key_TE, k)
    key_TMS = key_TE.unflatten(-1, (SET, sets))
    set_TK = _rising(key_TMS.amax(1)).topk(k, dim=-1, sorted=False).indices
    values_TK, place_TK = _topk(key_TMS.gather(-1, set_TK.unsqueeze(1).expand(-1, SET, -1)).flatten(1), k)
    return values_TK, place_TK // k * sets + set_TK.gather(-1, place_TK % k)


def _topk(key_TE: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return what `torch.topk` does of float32 without NaN."""
    column_TK = _rising(key_TE).topk(k, dim=-1).indices
    return key_TE.gather(-1, column_TK), column_TK


def _rising(key_TE: Tensor) -> Tensor:
    """Return int32 that rise with the float32 keys: `torch.topk` compares integers in less time, as none is NaN."""
    from torch import int32  # noqa: PLC0415  # problems are made where torch is not wanted

    bits_TE = key_TE.view(int32)
    # Those of a negative number rise as it falls.
    return (bits_TE >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits_TE)


def _group_scores(rule: TopkRule, key_TGS: Tensor) -> Tensor:
    """Return the sums of the ``group_best`` largest keys of each group, (T, G)."""
    size = key_TGS.shape[-1]
    if rule.group_best == 1:
        return key_TGS.amax(-1)
    if rule.group_best > 2 or size & (size - 1):
        return key_TGS.topk(rule.group_best, dim=-1).values.sum(-1)
    # The larger and the smaller of pairs; then of each two results the two largest, until there is one.
    left, right = key_TGS.chunk(2, dim=-1)
    first, second = left.maximum(right), left.minimum(right)
    while first.shape[-1] > 1:
        (left, right), (left_second, right_second) = first.chunk(2, dim=-1), second.chunk(2, dim=-1)
        first = left.maximum(right)
        second = left.minimum(right).maximum(left_second.maximum(right_second))
    return (first + second).squeeze(-1)


def _least(like: Tensor) -> float:
    from torch import finfo  # noqa: PLC0415  # problems are made where torch is not wanted

    return finfo(like.dtype).min


def selection_scores(rule: TopkRule, logits_TE: Tensor) -> Tensor:
    """Return the scores that selection adds biases to where it is by scores, float32 (T, E).

    They are computed in float64, then rounded: equal logits have equal scores, whichever instruction computed them.
    """
    z_TE = finite(logits_TE.double())
    if rule.score == "softmax":
        return z_TE.softmax(-1).float()
    return (z_TE.sigmoid() if rule.score == "sigmoid" else _softplus(z_TE).sqrt()).float()


def weigh(rule: TopkRule, logits_TE: Tensor, ids_TK: Tensor) -> Tensor:
    """Return the gates of chosen experts, float32 (T, K), differentiable in the logits; finite unless one is NaN."""
    if rule.score == "softmax" and not rule.renormalise:
        return finite(logits_TE.float()).softmax(-1).gather(-1, ids_TK) * rule.scale
    chosen_TK = logits_TE.gather(-1, ids_TK)
    if rule.shared:
        chosen_TK = _joined(chosen_TK, logits_TE[:, -rule.shared :])
    chosen_TK = finite(chosen_TK.double())
    log_TK = chosen_TK if rule.score == "softmax" else _log_score(rule.score, chosen_TK)
    # A softmax of logarithms divides scores by their sum even where all are near 0.
    gates_TK = log_TK.softmax(-1) if rule.renormalise else log_TK.exp()
    return (gates_TK[:, : ids_TK.shape[1]] * rule.scale).float()


def finite(logits_TE: Tensor) -> Tensor:
    """Return logits with the largest finite float32 in place of infinity: all of the weight, or an even part of it."""
    return logits_TE.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)


def shares(score: Score, logits_TE: Tensor) -> Tensor:
    """Return each column's part of the sum of all scores, float32 (T, E), differentiable in the logits."""
    if score == "softmax":
        return finite(logits_TE.float()).softmax(-1)
    return _log_score(score, finite(logits_TE.double())).softmax(-1).float()


def _log_score(score: Score, z: Tensor) -> Tensor:
    from torch.nn.functional import logsigmoid  # noqa: PLC0415  # problems are made where torch is not wanted

    if score == "sigmoid":
        return logsigmoid(z)
    # Far below zero softplus(z) is exp(z), whose logarithm float64 can no longer make of it.
    far = z < -30
    return z.where(far, _softplus(z.masked_fill(far, 0)).log()) / 2


def _softplus(z: Tensor) -> Tensor:
    from torch.nn.functional import softplus  # noqa: PLC0415

    return softplus(z, threshold=50.0)


def _joined(left: Tensor, right: Tensor) -> Tensor:
    import torch  # noqa: PLC0415

    return torch.cat((left, right), -1)


@dataclass(frozen=True)
class TopkRouter(Router):
    """A router that is a `TopkRule`."""

    @property
    @abstractmethod
    def rule(self) -> TopkRule:
        """The rule."""

    @property
    def extra_columns(self) -> int:
        return self.rule.shared

    def biases(self, inputs: RouterInputs) -> Tensor | None:
        """Return the selection biases of all columns but those of shared experts, None where there are none."""
        return inputs.bias_E

    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        ids_TK = choose(self.rule, inputs.logits_TE, self.biases(inputs), K)
        return ids_TK.int(), weigh(self.rule, inputs.logits_TE, ids_TK)

    def probabilities(self, logits_TE: Tensor) -> Tensor:
        """Return s / Σ s of the scores s of all columns but those of shared experts, float32."""
        return shares(self.rule.score, logits_TE[:, : logits_TE.shape[1] - self.rule.shared])


@dataclass(frozen=True)
class BiasedTopk(TopkRouter):
    """A top-k router whose experts have selection biases.

    In a trained model they are what balanced its load. Here they are those of the inputs, or else drawn uniformly from
    −``bias`` to ``bias``, always the same for a number of experts.
    """

    bias: float = parameter(0.0, least=0.0, most=100.0)

    @property
    def follows_load(self) -> bool:
        return not self.bias

    def biases(self, inputs: RouterInputs) -> Tensor | None:
        if inputs.bias_E is not None or not self.bias:
            return inputs.bias_E
        columns = inputs.logits_TE.shape[1] - self.rule.shared
        drawn_E = np.random.default_rng(0).uniform(-self.bias, self.bias, columns)
        return inputs.logits_TE.new_tensor(drawn_E.astype(np.float32)).float()


@dataclass(frozen=True)
class GroupedTopk(BiasedTopk):
    """The parameters that top-k routers of released models share.

    With ``groups`` above 1 a token chooses within ``top_groups`` of them. ``zero_experts`` are further columns that a
    token may choose: experts that return the token as it is, or nothing.
    """

    groups: int = parameter(1, least=1, most=MOST_GROUPS)
    top_groups: int = parameter(1, least=1, most=MOST_GROUPS)
    zero_experts: int = parameter(0, least=0, most=MOST_GROUPS)

    def __post_init__(self) -> None:
        if self.top_groups >= self.groups > 1:
            raise ValueError(f"top_groups = {self.top_groups} of groups = {self.groups} limits nothing: leave out both")
        if self.top_groups > self.groups:
            raise ValueError(f"top_groups = {self.top_groups} of groups = {self.groups}: give more groups")

    @property
    def extra_columns(self) -> int:
        return self.zero_experts + super().extra_columns

    @property
    def leaves_out(self) -> bool:
        return self.zero_experts > 0

    @property
    def follows_load(self) -> bool:
        return self.groups == 1 and not self.zero_experts and super().follows_load

    def refuses(self, problem: Problem) -> str | None:
        if self.groups == 1:
            return None
        best = self.rule.group_best
        E, K = problem.E + self.zero_experts, problem.K
        size = E // self.groups
        if E % self.groups or size < best:
            return f"needs {best} experts or more in each of {self.groups} equal groups, not E = {E}: give other groups"
        if self.top_groups * size < K:
            return f"leaves {self.top_groups * size} experts to a token, not K = {K}: give more top_groups"
        if Load.parse(problem.load).empty_experts(problem.E):
            return f"may choose a group of experts that load = {problem.load!r} never uses: give groups = 1"
        return None

    def for_fewer_experts(self) -> Router:
        return dataclasses.replace(self, groups=1, top_groups=1, zero_experts=0)
