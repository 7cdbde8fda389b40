"""95 % confidence intervals of accuracies and of their differences, as functions of plain numbers.

Accuracies and their differences are shares, in 0..1 and -1..1.

Sources: Student, "The probable error of a mean", Biometrika 1908, with quantiles by Abramowitz and Stegun, 26.7.3 and
26.7.4; Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927; Newcombe, "Interval
estimation for the difference between independent proportions", Statistics in Medicine 1998, method 10.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import cache
from statistics import mean, stdev

_LEVEL = 0.95
_Z = 1.96  # quantile of the normal distribution for that level


def student(values: Sequence[float]) -> float:
    """Half the width of the interval of a mean (Student).

    Args:
        values: two or more independent samples.
    """
    return student_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))


@cache
def student_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's distribution: 95 % lie within so many standard errors of the mean.

    Args:
        freedom: degrees of freedom, at least 1.
    """
    low, high = 0.0, 13.0  # with one degree of freedom it is 12.7, with many 1.96
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_within(middle, freedom) < _LEVEL else (low, middle)
    return high


def _student_within(t: float, freedom: int) -> float:
    """The probability that a number drawn from Student's distribution lies between -t and t."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    # 1 + 1/2 c^2 + 1*3/(2*4) c^4 + ..., up to the power freedom - 2; or c + 2/3 c^3 + 2*4/(3*5) c^5 + ...
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total


def wilson(accuracy: float, samples: int, z: float = _Z) -> tuple[float, float]:
    """The ends of the interval of an accuracy measured on `samples` recordings (Wilson)."""
    centre = accuracy + z * z / (2 * samples)
    width = z * math.sqrt(accuracy * (1 - accuracy) / samples + z * z / (4 * samples * samples))
    scale = 1 + z * z / samples
    return (centre - width) / scale, (centre + width) / scale


def wilson_difference(first: float, second: float, samples: int) -> tuple[float, float]:
    """The ends of the interval of first - second, two accuracies measured on `samples` recordings each (Newcombe).

    The two are assumed to be independent; on the same recordings the interval is somewhat too wide.
    """
    (low_1, high_1), (low_2, high_2) = wilson(first, samples), wilson(second, samples)
    difference = first - second
    below = math.hypot(first - low_1, high_2 - second)
    above = math.hypot(high_1 - first, second - low_2)
    return difference - below, difference + above


def half_interval(accuracies: Sequence[float], samples: int, groups: Sequence[Hashable] = ()) -> float:
    """Half the width of the interval of a mean accuracy: Student's over several runs, Wilson's for a single run.

    Args:
        accuracies: of the runs.
        samples: number of recordings that each run was tested on.
        groups: of each run, as in `means_of_groups`.
    """
    if len(accuracies) > 1:
        return student(means_of_groups(accuracies, groups))
    low, high = wilson(accuracies[0], samples)
    return (high - low) / 2


def half_difference(pairs: Sequence[tuple[float, float]], samples: int, groups: Sequence[Hashable] = ()) -> float:
    """Half the width of the interval of a mean difference: Student's over several pairs, Newcombe's for a single pair.

    Args:
        pairs: accuracies of the two methods in each pair of runs.
        samples: number of recordings that each run was tested on.
        groups: of each pair, as in `means_of_groups`.
    """
    if len(pairs) > 1:
        return student(means_of_groups([first - second for first, second in pairs], groups))
    low, high = wilson_difference(*pairs[0], samples)
    return (high - low) / 2


def means_of_groups(values: Sequence[float], groups: Sequence[Hashable]) -> list[float]:
    """The mean of each group of runs, if there are several groups; else the values unchanged.

    Runs with different seeds that are tested on the same speakers are not independent, since they share the difficulty
    of these speakers. Counted as independent, they would make an interval far too narrow for other speakers.

    Args:
        values: one for each run.
        groups: what each run was tested on, such as its fold; empty if it is the same for all runs.
    """
    members = defaultdict[Hashable, list[float]](list)
    for value, group in zip(values, groups, strict=bool(groups)):
        members[group].append(value)
    return [mean(each) for each in members.values()] if len(members) > 1 else list(values)
