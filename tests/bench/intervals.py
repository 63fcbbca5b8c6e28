"""How often intervals of a difference cover the truth: percentile, BCa, Student's t, bootstrap-t, and its symmetric form.

    python tests/bench/intervals.py

A thousand simulated tests each, of two networks' IoU: summed over the photographs (ratio) and averaged over them (mean). In
`failures` each network fails on some photographs of its own, in `rare` only the second one does.
"""

from statistics import NormalDist

import numpy as np
from scipy.stats import t as student

TESTS, DRAWS, LEVEL = 1000, 2000, 0.95
NORMAL, ENDS = NormalDist(), ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def photographs(kind: str, generator: np.random.Generator, shape: tuple) -> list[np.ndarray]:
    """Intersections and unions of both networks."""
    area, quality = generator.gamma(2, 1, shape) + 0.05, generator.beta(20, 1.2, shape)
    noise = {"even": 0.03, "failures": 0.02, "rare": 0.004}[kind]
    other = np.clip(quality + generator.normal(0, noise, shape), 0.01, 1)
    if kind == "failures":
        quality = np.where(generator.random(shape) < 0.05, generator.random(shape), quality)
        other = np.where(generator.random(shape) < 0.03, generator.random(shape), other)
    elif kind == "rare":
        other = np.where(generator.random(shape) < 0.05, generator.random(shape) * other, other)
    unions = [area * (1 + 0.3 * (1 - one)) for one in (quality, other)]
    return [quality * unions[0], unions[0], other * unions[1], unions[1]]


def ratio(hits: np.ndarray, unions: np.ndarray, others: np.ndarray, their_unions: np.ndarray) -> np.ndarray:
    """The difference of both networks, of sums or of single photographs."""
    return others / their_unions - hits / unions


def coverage(kind: str, mean: bool, count: int) -> str:
    """The share of tests on `count` photographs whose intervals hold the truth, in percent."""
    large, parts = (
        photographs(kind, np.random.default_rng(9), (4_000_000,)),
        photographs(kind, np.random.default_rng(5), (count, TESTS)),
    )
    truth = ratio(*large).mean() if mean else ratio(*(one.sum() for one in large))
    places = np.random.default_rng(0).integers(0, count, (DRAWS, count)) + np.arange(DRAWS)[:, None] * count
    weights = np.bincount(places.ravel(), minlength=DRAWS * count).reshape(DRAWS, count).astype(float)
    if mean:
        parts = [np.zeros_like(parts[0]), np.ones_like(parts[0]), ratio(*parts), np.ones_like(parts[0])]
    whole = [part.sum(0) for part in parts]
    found, without = ratio(*whole), ratio(*(total - part for total, part in zip(whole, parts, strict=True)))
    drawn = ratio(*(weights @ part for part in parts))
    errors = np.stack([_error(weights, parts, [weights[draw] @ part for part in parts], draw) for draw in range(DRAWS)])
    error = _error(np.ones((1, count)), parts, whole, 0)
    away = np.where(errors > 0, (drawn - found) / np.where(errors > 0, errors, 1), 0)
    low, high = np.quantile(away, ENDS, axis=0)
    both, half = (
        np.quantile(np.abs(away), LEVEL, axis=0),
        student.ppf(ENDS[1], count - 1) * np.sqrt(count / (count - 1)),
    )
    intervals = {
        "percentile": np.quantile(drawn, ENDS, axis=0),
        "BCa": _bca(drawn, found, without),
        "Student": (found - half * error, found + half * error),
        "bootstrap-t": (found - high * error, found - low * error),
        "symmetric": (found - both * error, found + both * error),
    }
    return "  ".join(f"{name} {100 * ((a <= truth) & (truth <= b)).mean():.1f}" for name, (a, b) in intervals.items())


def _error(weights: np.ndarray, parts: list[np.ndarray], sums: list[np.ndarray], draw: int) -> np.ndarray:
    """The standard error of each test's difference in a draw, by the delta method."""
    hits, unions, others, their_unions = sums
    influence = (parts[2] - others / their_unions * parts[3]) / their_unions - (
        parts[0] - hits / unions * parts[1]
    ) / unions
    return np.sqrt(weights[draw] @ influence**2)


def _bca(drawn: np.ndarray, found: np.ndarray, without: np.ndarray) -> np.ndarray:
    share = np.clip(((drawn < found).mean(0) + (drawn <= found).mean(0)) / 2, 1 / DRAWS, 1 - 1 / DRAWS)
    bias, gains = np.array([NORMAL.inv_cdf(one) for one in share]), without.mean(0) - without
    skew = (gains**3).sum(0) / (6 * (gains**2).sum(0) ** 1.5)
    ends = []
    for end in ENDS:
        moved = bias + NORMAL.inv_cdf(end)
        shares = [NORMAL.cdf(one) for one in bias + moved / (1 - skew * moved)]
        ends.append(np.array([np.quantile(column, one) for column, one in zip(drawn.T, shares, strict=True)]))
    return np.array(ends)


if __name__ == "__main__":
    for count in (100, 200, 400):
        for kind in ("even", "failures", "rare"):
            for mean in (False, True):
                print(
                    f"{count} photographs, {kind}, {'mean' if mean else 'ratio'}: {coverage(kind, mean, count)}",
                    flush=True,
                )
