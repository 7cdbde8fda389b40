"""Validation sets: a part of the training recordings is held out."""

from collections.abc import Collection
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, choice_error
from .choices import HOLD_OUTS, HoldOut

_Integers = NDArray[np.integer[Any]]
_Split = tuple[NDArray[np.int64], NDArray[np.int64]]


def hold_out(
    labels: ArrayLike, speakers: ArrayLike | None, *, fraction: float = 0.2, by: HoldOut = "auto", seed: int = 0
) -> _Split:
    """Split N recordings into those to train on and those to hold out for validation.

    "speaker" holds out whole speakers, so that validation measures what the test does: how well a network recognises
    speakers that it was not trained on. `fraction` is then a share of the speakers: rounded, at least one, never all.
    Seeds take them in turn, in ascending order: of ten speakers with a fraction of a fifth, seed 0 holds out the first
    two, seed 1 the next two, and seed 5 the first two again. "stratified" draws that fraction of
    each class at random, at least one recording of each class that has two. "auto" is "speaker" if there are two
    speakers or more, else "stratified".

    Args:
        labels: (N,) integers.
        speakers: (N,) integers, or None if unknown.
        fraction: share of recordings, or of speakers, to hold out, between 0 and 1.
        by: "auto", "speaker" or "stratified".
        seed: the same seed gives the same split.

    Returns:
        (training, validation): two int64 arrays of positions, ascending, disjoint, together 0..N-1.

    Raises:
        ArgumentError: an argument is out of range, nothing can be held out, or a class would have no recording to train
            on.
    """
    label = _one_each("labels", labels)
    speaker = None if speakers is None else _one_each("speakers", speakers)
    if speaker is not None and speaker.shape != label.shape:
        raise ArgumentError("speakers", f"one per recording, ({len(label)},)", speaker.shape)
    if not 0 < fraction < 1:
        raise ArgumentError("fraction", "a number between 0 and 1, both excluded", fraction)
    if by not in HOLD_OUTS:
        raise choice_error("by", HOLD_OUTS, by)
    if not isinstance(seed, Integral) or seed < 0:
        raise ArgumentError("seed", "an integer >= 0", seed)

    several = speaker is not None and len(np.unique(speaker)) > 1
    if speaker is not None and several and by != "stratified":
        who = np.unique(speaker)
        number = min(max(round(fraction * len(who)), 1), len(who) - 1)
        chosen = who[(int(seed) * number + np.arange(number)) % len(who)]
        held = _whole_speakers(label, speaker, chosen, "Take another seed, a smaller fraction, or by='stratified'.")
    elif by == "speaker":
        got = "None" if speaker is None else "only one"
        raise ArgumentError("speakers", "two or more", got, "Take by='stratified'.")
    else:
        held = _of_each_class(label, fraction, np.random.default_rng(int(seed)))
    return np.flatnonzero(~held), np.flatnonzero(held)


def speaker_folds(speakers: ArrayLike) -> list[tuple[int, ...]]:
    """Divide the speakers of N recordings, in ascending order, into pairs; with an odd number, the last one is alone.

    Args:
        speakers: (N,) integers.
    """
    who = np.unique(_one_each("speakers", speakers)).tolist()
    return [tuple(who[start : start + 2]) for start in range(0, len(who), 2)]


def hold_out_speakers(labels: ArrayLike, speakers: ArrayLike, held: Collection[int]) -> _Split:
    """Split N recordings into those to train on and those of some speakers.

    Args:
        labels: (N,) integers.
        speakers: (N,) integers.
        held: the speakers to hold out.

    Returns:
        (training, held out): two int64 arrays of positions, ascending, disjoint, together 0..N-1.

    Raises:
        ArgumentError: a speaker does not exist, all speakers would be held out, or a class would have no recording to
            train on.
    """
    label, speaker = _one_each("labels", labels), _one_each("speakers", speakers)
    chosen, who = np.unique(np.asarray(list(held), np.int64)), np.unique(speaker)
    if unknown := sorted(set(chosen.tolist()) - set(who.tolist())):
        raise ArgumentError("held", f"speakers among {who.tolist()}", unknown)
    if len(chosen) == len(who):
        raise ArgumentError("held", f"fewer than all speakers {who.tolist()}", chosen.tolist())
    mask = _whole_speakers(label, speaker, chosen, "Hold out fewer speakers.")
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def _one_each(name: str, values: ArrayLike) -> _Integers:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ArgumentError(name, "integers (N,), one per recording", f"{array.dtype} {array.shape}")
    return array


def _whole_speakers(label: _Integers, speaker: _Integers, chosen: _Integers, advice: str) -> NDArray[np.bool_]:
    held: NDArray[np.bool_] = np.isin(speaker, chosen)
    lost = np.setdiff1d(label, label[~held])
    if len(lost):
        expected = "every class spoken by a speaker who stays in training"
        got = f"label {lost[0]} only by the held-out {chosen.tolist()}"
        raise ArgumentError("speakers", expected, got, advice)
    return held


def _of_each_class(label: _Integers, fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    held = np.zeros(len(label), np.bool_)
    for one in np.unique(label):
        members = np.flatnonzero(label == one)
        if len(members) > 1:  # a class of one stays in training
            number = min(max(round(fraction * len(members)), 1), len(members) - 1)
            held[rng.permutation(members)[:number]] = True
    if not held.any():
        raise ArgumentError("labels", "a class with two recordings or more", f"{len(label)} recordings, none like that")
    return held
