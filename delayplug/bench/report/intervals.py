"""Intervals of accuracies and of differences: the true value lies in each with 95 %. Numbers in, numbers out.

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
_Z = 1.96  # of the normal distribution, for that level


def student(values: Sequence[float]) -> float:
    """Half the interval of the mean that two or more values are drawn around (Student).

    Args:
        values: drawn independently of each other.
    """
    return student_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))


@cache
def student_quantile(freedom: int) -> float:
    """How many standard errors from the mean 95 % lie, 97.5 % below, with so many degrees of freedom, from 1 on."""
    low, high = 0.0, 13.0  # with one degree of freedom it is 12.7, with many 1.96
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_within(middle, freedom) < _LEVEL else (low, middle)
    return high


def _student_within(t: float, freedom: int) -> float:
    """The probability that Student's distribution gives a number between -t and t."""
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
    """The interval of the accuracy of which so many recordings are a sample (Wilson)."""
    centre = accuracy + z * z / (2 * samples)
    width = z * math.sqrt(accuracy * (1 - accuracy) / samples + z * z / (4 * samples * samples))
    scale = 1 + z * z / samples
    return (centre - width) / scale, (centre + width) / scale


def wilson_difference(first: float, second: float, samples: int) -> tuple[float, float]:
    """The interval of the difference, first minus second, of two accuracies on so many recordings (Newcombe).

    It takes the two for independent: on the same recordings it is rather too wide.
    """
    (low_1, high_1), (low_2, high_2) = wilson(first, samples), wilson(second, samples)
    difference = first - second
    below = math.hypot(first - low_1, high_2 - second)
    above = math.hypot(high_1 - first, second - low_2)
    return difference - below, difference + above


def half_interval(accuracies: Sequence[float], samples: int, groups: Sequence[Hashable] = ()) -> float:
    """Half the interval of a mean accuracy: Student's over several runs, Wilson's on so many recordings of a single.

    Args:
        accuracies: of the runs.
        samples: recordings that each of them was tested on.
        groups: of each run, as `means_of_groups` takes them.
    """
    if len(accuracies) > 1:
        return student(means_of_groups(accuracies, groups))
    low, high = wilson(accuracies[0], samples)
    return (high - low) / 2


def half_difference(pairs: Sequence[tuple[float, float]], samples: int, groups: Sequence[Hashable] = ()) -> float:
    """Half the interval of the mean difference of pairs of runs: Student's, or Newcombe's of a single pair.

    Args:
        pairs: accuracies of two methods.
        samples: recordings that each of them was tested on.
        groups: of each pair, as `means_of_groups` takes them.
    """
    if len(pairs) > 1:
        return student(means_of_groups([first - second for first, second in pairs], groups))
    low, high = wilson_difference(*pairs[0], samples)
    return (high - low) / 2


def means_of_groups(values: Sequence[float], groups: Sequence[Hashable]) -> list[float]:
    """The mean of each group of runs, where there are several groups; else the values as they are.

    Runs of several seeds that are tested on the same speakers share how hard these speakers are. Counted as if each
    were on speakers of its own, they would make an interval far too narrow for what other speakers would give.

    Args:
        values: one for each run.
        groups: what each run was tested on, such as its fold; empty if that is the same for all.
    """
    members = defaultdict[Hashable, list[float]](list)
    for value, group in zip(values, groups, strict=bool(groups)):
        members[group].append(value)
    return [mean(each) for each in members.values()] if len(members) > 1 else list(values)
