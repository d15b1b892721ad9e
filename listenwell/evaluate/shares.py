"""95 % intervals of shares of right decisions that respect groups: clips of one speaker or source are not independent.

Two intervals, and the wider side of each counts:

- Beta-binomial: the shares right of the groups are Beta distributed with mean p and intra-class correlation icc; the
  posterior of p with Jeffreys' prior, icc integrated out over its uniform prior. It knows that a handful of errors
  says little about how alike the clips of a group are.
- Wilson (1927, JASA 22:209) with the number of clips replaced by what the spread between groups says they are worth,
      n = p (1 - p) / v,   v = G / (G - 1) sum_g (r_g - p m_g)^2 / N^2   (Cochran 1977, chapter 6), n at most N,
  and t with (groups - 1) degrees of freedom in place of the normal quantile. It assumes no distribution: where a tenth
  of the groups is hard, the first alone covers .87.

One more error must not raise the lower bound, also where it makes the groups more alike: the second is the lowest over
what is left when the errors of the groups with the smallest error shares are dropped, one group after the other (and
its upper end likewise). Simulated coverage: benchmarks/interval_coverage.py, docs/statistics.md.

G groups of m_g clips, r_g of them right; N clips in all.
"""

from math import pi

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, stdtrit

CONFIDENCE = 0.95
N_SHARES, N_ICCS = 96, 16
"""Points of the grid over share and correlation."""
MOST_ZOOMS = 8
NEGLIGIBLE = 1e-5
"""Grid points with a smaller share of the posterior's height lie outside of what is looked at."""
Floats = NDArray[np.float64]


def share_bounds(rights: Floats, sizes: Floats) -> tuple[float, float]:
    """Return the interval of the share right, which holds sum(rights) / sum(sizes).

    rights, sizes: (G,), G at least 2; a rate measured otherwise may give fractions of clips.
    """
    low, high = _beta_binomial(rights, sizes)
    quantile = t_quantile(sizes.size)
    return (
        min(low, _least_wilson(sizes - rights, sizes, quantile)),
        max(high, 1.0 - _least_wilson(rights, sizes, quantile)),
    )


def spread_bounds(rights: Floats, sizes: Floats) -> tuple[float, float]:
    """Return Wilson's interval of a share with what the spread between groups says the clips are worth, and t.

    rights, sizes: (G,), G at least 2. Alone it is too narrow where few groups err; see the module's text.
    """
    share = rights.sum() / sizes.sum()
    worth = _worth(share, np.sum((rights - share * sizes) ** 2), sizes)
    return wilson(float(share), float(worth), t_quantile(sizes.size))


def t_quantile(n_groups: float) -> float:
    """Return the two-sided 95 % quantile of t with n_groups - 1 degrees of freedom, at least one.

    n_groups may be a fraction: `kish_groups`.
    """
    return float(stdtrit(max(n_groups - 1.0, 1.0), 0.5 + CONFIDENCE / 2))


def wilson_bounds(share: Floats, n: Floats, quantile: float) -> tuple[Floats, Floats]:
    """Return Wilson's score interval of a share out of n (n may be a fraction), of any shape."""
    z2 = quantile * quantile
    centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n)
    half = quantile / (1.0 + z2 / n) * np.sqrt(share * (1.0 - share) / n + z2 / (4.0 * n * n))
    return np.maximum(0.0, np.minimum(share, centre - half)), np.minimum(1.0, np.maximum(share, centre + half))


def wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's score interval of one share."""
    low, high = wilson_bounds(np.asarray(share), np.asarray(n), quantile)
    return float(low), float(high)


def kish_groups(sizes: Floats) -> float:
    """Return how many groups of equal size groups of `sizes` (G,) are worth: sum(m)^2 / sum(m^2) (Kish 1965)."""
    return float(sizes.sum() ** 2 / np.square(sizes).sum())


def effective_n(sizes: Floats, icc: Floats | float) -> Floats:
    """Return how many independent clips groups of `sizes` (G,) are worth at this intra-class correlation.

    The clips over the design effect 1 + (m - 1) icc, m = sum(m_g^2) / N (Kish 1965; Donner & Klar 2000, section 5.3).
    """
    mean_size = np.square(sizes).sum() / sizes.sum()
    return np.asarray(sizes.sum() / (1.0 + (mean_size - 1.0) * np.asarray(icc)))


def _least_wilson(wrongs: Floats, sizes: Floats, quantile: float) -> float:
    """Return the lowest lower end over the errors of the k groups with the largest error shares, k = 1 .. G."""
    order = np.lexsort((-sizes, -wrongs / sizes))
    wrongs, sizes = wrongs[order], sizes[order]
    share = np.cumsum(wrongs) / sizes.sum()
    squares = np.cumsum(wrongs**2) - 2 * share * np.cumsum(wrongs * sizes) + share**2 * np.sum(sizes**2)
    return float(wilson_bounds(1 - share, _worth(share, squares, sizes), quantile)[0].min())


def _worth(share: Floats, squares: Floats, sizes: Floats) -> Floats:
    """Return the independent clips that a share is worth; squares: sum_g (r_g - p m_g)^2. Any shape, at most N."""
    n_clips = sizes.sum()
    variance = sizes.size / (sizes.size - 1) * np.asarray(squares) / n_clips**2
    with np.errstate(divide="ignore", invalid="ignore"):
        worth = share * (1.0 - share) / variance
    return np.asarray(np.where(variance > 1e-15, np.minimum(worth, n_clips), n_clips))


def _beta_binomial(rights: Floats, sizes: Floats) -> tuple[float, float]:
    """Return the 2.5 and 97.5 % quantiles of the posterior of the mean share.

    The share is sin^2 of an angle, over which Jeffreys' prior is flat. Angles and correlations lie on a grid of cells
    that is drawn again over what counts of the last one, until that fills it.
    """
    angles, iccs = (0.0, pi / 2), (0.0, 1.0)
    for _ in range(MOST_ZOOMS):
        edges = np.linspace(*angles, N_SHARES + 1)
        levels = np.linspace(*iccs, N_ICCS + 1)
        height = _log_likelihood(np.sin(_centres(edges)) ** 2, _centres(levels), rights, sizes)
        height = np.exp(height - height.max())
        found = [_support(height.sum(axis=axis), at) for axis, at in ((1, edges), (0, levels))]
        narrowed = [(new[1] - new[0]) / (old[1] - old[0]) for new, old in zip(found, (angles, iccs), strict=True)]
        if min(narrowed) > 0.5:
            break
        angles, iccs = found
    below = np.concatenate([[0.0], np.cumsum(height.sum(axis=1))])
    tails = below[-1] * np.array([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high = np.sin(np.interp(tails, below, edges)) ** 2
    return float(low), float(high)


def _centres(edges: Floats) -> Floats:
    return (edges[1:] + edges[:-1]) / 2


def _support(height: Floats, edges: Floats) -> tuple[float, float]:
    """Return the stretch of the cells that count, one more at each side."""
    cells = np.flatnonzero(height > NEGLIGIBLE * height.max())
    return float(edges[max(cells[0] - 1, 0)]), float(edges[min(cells[-1] + 2, height.size)])


def _log_likelihood(share: Floats, icc: Floats, rights: Floats, sizes: Floats) -> Floats:
    """Return the log of the beta-binomial likelihood at every share and correlation, (N_SHARES, N_ICCS).

    a = p (1 - icc) / icc, b = (1 - p) (1 - icc) / icc: a term of r_g, one of m_g - r_g, one of m_g, each worked out
    once for equal counts.
    """
    strength = (1 - icc) / icc
    a, b = share[:, None] * strength, (1 - share[:, None]) * strength
    return _rising(a, rights) + _rising(b, sizes - rights) - _rising(strength[None, :], sizes)


def _rising(start: Floats, counts: Floats) -> Floats:
    """Return the sum over `counts` of log(start (start + 1) ... (start + count - 1)), in the shape of start."""
    values, times = np.unique(counts[counts > 0], return_counts=True)
    total = np.zeros(start.shape)
    for value, n in zip(values.tolist(), times.tolist(), strict=True):
        total += n * gammaln(start + value)
    return np.asarray(total - times.sum() * gammaln(start))
