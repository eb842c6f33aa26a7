"""A Gaussian process over a space of configurations: the expected times, and their uncertainty.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006 (R&W below).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.special import ndtr

Floats = NDArray[np.float64]

LENGTHS = (0.5, 1.0, 2.0)  # of correlation along an axis of length 1: its ends correlate little, much or nearly fully
SHARES = (0.3, 0.6, 0.9)  # of the variance due to single axes; the rest is interaction between axes
NOISES = (0.0003, 0.003, 0.03)  # variance of a full measurement, relative to that of the process
VARIANCE = 0.1  # of log scores, before anything is measured: times within about a third of each other
BELIEF = 4  # the weight of that prior, in measurements
INTERCEPT = 1.0  # variance of the mean, relative to that of the process
SLOPE = 0.7  # of log times over log predictions: measured times differ less than predicted ones
SLOPE_VARIANCE = 2.0
NEW_FIT = 1.2  # growth of the observations after which the fit is repeated


@dataclass(frozen=True)
class Observations:
    """Log scores ``y`` of configurations, and the variance of their noise relative to that of a full measurement."""

    indices: NDArray[np.int64]
    y: Floats
    noise: Floats


class Surrogate:
    """A Gaussian process for log scores y over the points of a space.

    Its mean is ``a + b log(prediction)`` with normal priors on a and b (R&W section 2.7), or ``a`` without predictions.
    Its covariance is the sum of an additive part, in which every axis has its own effect, and of a product, in which
    all axes interact. Both are made of Matérn functions (R&W equation 4.17, ν = 3/2) of the distance along an axis.
    All values of an unordered axis have the same distance. The fit is repeated when the observations have grown by a
    fifth.

    ``features_NA`` are those of `Space.features`, ``ordered_A`` marks the ordered axes, ``trend_N`` is log(prediction).
    """

    def __init__(self, features_NA: Floats, ordered_A: Sequence[bool], trend_N: Floats | None) -> None:
        self._axes = [np.unique(column, return_inverse=True) for column in features_NA.T]
        self._ordered_A = ordered_A
        self._everything = np.arange(len(features_NA))
        self._trend_N = np.zeros(len(features_NA)) if trend_N is None else trend_N - trend_N.mean()
        self._fitted = 0
        self._variance = VARIANCE
        self._noise = NOISES[0]
        self._correlation = (LENGTHS[0], SHARES[0])
        self._rows: dict[int, Floats] = {}

    def posterior(self, seen: Observations, pending: Sequence[int]) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the log score of every configuration (R&W equations 2.25 and 2.26).

        Pending configurations are assumed to score as expected, which lowers the uncertainty of their neighbours (the
        kriging believer of Ginsbourger et al. 2010).
        """
        if len(seen.y) >= NEW_FIT * self._fitted:
            self._fit(seen)
        count = len(seen.y)
        places = np.array([*seen.indices, *pending])
        noise = self._noise * np.concatenate([seen.noise, np.ones(len(pending))])
        across = self._across(places)
        factor = _factor(across[:, places], noise)
        weights = cho_solve((factor[:count, :count], True), self._residual(seen), check_finite=False)
        mean = SLOPE * self._trend_N + weights @ across[:count]
        explained = solve_triangular(factor, across, lower=True, check_finite=False)
        prior = 1 + INTERCEPT + SLOPE_VARIANCE * np.square(self._trend_N)
        rest = prior - np.square(explained).sum(axis=0)
        return mean, np.sqrt(self._variance * np.maximum(rest, 0.0))

    def _fit(self, seen: Observations) -> None:
        """Choose the hyper-parameters of the grid that make the observations most likely."""
        candidates = []
        for correlation in itertools.product(LENGTHS, SHARES):
            covariance = self._covariance(seen.indices, seen.indices, *correlation)
            for noise in NOISES:
                variance, evidence = self._evidence(seen, _factor(covariance, noise * seen.noise))
                candidates.append((evidence, variance, noise, correlation))
        _, self._variance, self._noise, correlation = max(candidates, key=lambda candidate: candidate[0])
        if correlation != self._correlation:
            self._correlation = correlation
            self._rows.clear()
        self._fitted = len(seen.y)

    def _residual(self, seen: Observations) -> Floats:
        """Return the observations minus the prior mean."""
        return seen.y - SLOPE * self._trend_N[seen.indices]

    def _evidence(self, seen: Observations, factor: Floats) -> tuple[float, float]:
        """Return the variance of the process, and the log marginal likelihood up to a constant (R&W equation 2.30).

        The variance has an inverse gamma prior and is integrated out, which leaves Student's t.
        """
        whitened = solve_triangular(factor, self._residual(seen), lower=True, check_finite=False)
        degrees = BELIEF + len(whitened)
        scale = BELIEF * VARIANCE + float(whitened @ whitened)
        return scale / degrees, -0.5 * degrees * math.log(scale) - float(np.log(factor.diagonal()).sum())

    def _across(self, indices: NDArray[np.int64]) -> Floats:
        """Return the covariance of some configurations with all; each row is computed once for each fit."""
        new = [int(index) for index in indices if index not in self._rows]
        made = self._covariance(np.array(new, dtype=np.int64), self._everything, *self._correlation)
        self._rows.update(zip(new, made, strict=True))
        return np.stack([self._rows[index] for index in indices])

    def _covariance(self, these: NDArray[np.int64], those: NDArray[np.int64], length: float, share: float) -> Floats:
        """Return the covariance of some configurations with others, relative to that of the process, (these, those)."""
        together = np.ones((len(these), len(those)))
        alone = np.zeros_like(together)
        for (values, places), ordered in zip(self._axes, self._ordered_A, strict=True):
            distance = np.abs(values[:, None] - values) if ordered else 1 - np.eye(len(values))
            scaled = math.sqrt(3) / length * distance
            along = ((1 + scaled) * np.exp(-scaled))[places[these]][:, places[those]]
            alone += along / len(self._axes)
            together *= along
        trend = SLOPE_VARIANCE * np.outer(self._trend_N[these], self._trend_N[those])
        return share * alone + (1 - share) * together + INTERCEPT + trend


def expected_improvement(best: float, mean: Floats, deviation: Floats) -> Floats:
    """Return the expected improvement on ``best``, in log score (Jones et al. 1998, equation 15)."""
    gain = best - mean
    sure = deviation <= 0
    z = gain / np.where(sure, 1.0, deviation)
    density = np.exp(-0.5 * np.square(z)) / math.sqrt(2 * math.pi)
    return np.where(sure, np.maximum(gain, 0.0), gain * ndtr(z) + deviation * density)


def _factor(covariance: Floats, noise: float | Floats) -> Floats:
    """Return the lower Cholesky factor of a covariance with noise, and a jitter for equal points, on its diagonal."""
    jitter = 1e-8
    noisy = covariance + np.diag(np.broadcast_to(noise + jitter, len(covariance)))
    factor: Floats = cholesky(noisy, lower=True, overwrite_a=True, check_finite=False)
    return factor
