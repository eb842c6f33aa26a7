"""The balanced assignment of tokens to experts with the largest sum of scores, exactly.

It is a transportation problem with E sinks. Prices of experts for which every token's best expert less its price gives
nearly balanced counts are found by a smoothed dual ascent; what is still unbalanced is moved along shortest paths
between experts, each of which loses the least (Ahuja, Magnanti and Orlin 1993, "Network Flows", section 9.7).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FAR = 1e6  # beyond the finite scores: an infinite score counts as so far
STEPS = 60  # of the dual ascent, from the spread of the scores down to a thousandth of it
COOLED = 1e-3


def balanced_assignment(score_TE: Floats) -> Ints:
    """Return the expert of every token, int64 (T,): each takes ⌊T/E⌋ tokens, the first T mod E one more.

    The sum of the scores (T, E) is the largest of all such assignments, to rounding errors of float64.
    """
    tokens, experts = score_TE.shape
    if tokens == 0:
        return np.empty(0, dtype=np.int64)
    score_TE = _finite(score_TE)
    room_E = np.full(experts, tokens // experts) + (np.arange(experts) < tokens % experts)
    assigned_T = np.argmax(score_TE - _prices(score_TE, room_E), axis=1)
    return _balanced(score_TE, assigned_T, room_E)


def _finite(score_TE: Floats) -> Floats:
    finite = np.isfinite(score_TE)
    if finite.all():
        return score_TE
    known = score_TE[finite]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    return np.nan_to_num(score_TE, nan=low - FAR, neginf=low - FAR, posinf=high + FAR)


def _prices(score_TE: Floats, room_E: Ints) -> Floats:
    """Return prices for which soft choices at a falling temperature are balanced; multiples of equal scores cancel."""
    price_E = np.zeros(len(room_E))
    spread = float(np.median(score_TE.max(1) - score_TE.min(1)))
    if not 0 < spread < FAR:
        return price_E
    log_room_E = np.log(np.maximum(room_E, 0.5))
    for step in range(STEPS):
        temperature = spread * COOLED ** (step / (STEPS - 1))
        weight_TE = (score_TE - price_E) / temperature
        weight_TE -= weight_TE.max(1, keepdims=True)
        np.exp(weight_TE, out=weight_TE)
        weight_TE /= weight_TE.sum(1, keepdims=True)
        price_E += temperature * (np.log(np.maximum(weight_TE.sum(0), 1e-9)) - log_room_E)
    return price_E


def _balanced(score_TE: Floats, assigned_T: Ints, room_E: Ints) -> Ints:
    """Move tokens from experts with too many to those with too few, each time along the path that loses the least.

    The assignment stays the best for the counts it has, so that no move gains and the last one is the best of all.
    """
    experts = len(room_E)
    members = [set(np.flatnonzero(assigned_T == e).tolist()) for e in range(experts)]
    loss_EE, token_EE = np.full((experts, experts), np.inf), np.zeros((experts, experts), dtype=np.int64)

    def refresh(e: int) -> None:
        loss_EE[e] = np.inf
        if members[e]:
            tokens = np.fromiter(sorted(members[e]), dtype=np.int64)
            lost_nE = score_TE[tokens, e][:, None] - score_TE[tokens]
            first_E = lost_nE.argmin(0)
            loss_EE[e], token_EE[e] = lost_nE[first_E, np.arange(experts)], tokens[first_E]
            loss_EE[e, e] = np.inf

    for e in range(experts):
        refresh(e)
    while True:
        surplus_E = np.array([len(found) for found in members]) - room_E
        if not (surplus_E > 0).any():
            return assigned_T
        path = _least_loss(loss_EE, surplus_E)
        for source, target in pairwise(path):
            moved = [int(token_EE[source, target])]
            if len(path) == 2:  # no later path loses less than its equals on this one
                tokens = np.fromiter(sorted(members[source]), dtype=np.int64)
                alike = tokens[score_TE[tokens, source] - score_TE[tokens, target] <= loss_EE[source, target]]
                moved = alike[: min(surplus_E[source], -surplus_E[target])].tolist()
            members[source].difference_update(moved)
            members[target].update(moved)
            assigned_T[moved] = target
        for e in path:
            refresh(e)


def _least_loss(loss_EE: Floats, surplus_E: Ints) -> list[int]:
    """Return the experts along the path of least loss from one with too many tokens to one with too few."""
    distance_E = np.where(surplus_E > 0, 0.0, np.inf)
    before_E = np.full(len(distance_E), -1)
    for _ in range(len(distance_E)):
        through_EE = distance_E[:, None] + loss_EE
        nearest_E = through_EE.argmin(0)
        shorter = through_EE[nearest_E, np.arange(len(distance_E))]
        better = shorter < distance_E - 1e-12
        if not better.any():
            break
        distance_E = np.where(better, shorter, distance_E)
        before_E = np.where(better, nearest_E, before_E)
    target = int(np.where(surplus_E < 0, distance_E, np.inf).argmin())
    path = [target]
    while before_E[path[0]] >= 0:
        path.insert(0, int(before_E[path[0]]))
    return path
