import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from delayplug.data import hold_out
from delayplug.data.splits import hold_out_speakers, speaker_folds
from delayplug.errors import ArgumentError
from tests.profiles import examples

LABELS = st.lists(st.integers(0, 3), min_size=8, max_size=60)
FRACTIONS = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 1000)


def check_partition(train, valid, number):
    assert train.dtype == valid.dtype == np.int64
    assert len(train)
    assert len(valid)
    assert (np.diff(train) > 0).all()
    assert (np.diff(valid) > 0).all()
    assert sorted([*train, *valid]) == list(range(number))


@settings(max_examples=examples(100))
@given(LABELS, FRACTIONS, SEEDS)
def test_stratified(labels, fraction, seed):
    train, valid = hold_out(labels, None, fraction=fraction, by="stratified", seed=seed)
    check_partition(train, valid, len(labels))
    for label in set(labels):
        number, held = labels.count(label), sum(labels[n] == label for n in valid)
        assert abs(held - fraction * number) <= 0.5 or held in (1, number - 1)
        assert 1 <= held < number or (held, number) == (0, 1)
    again = hold_out(torch.tensor(labels), None, fraction=fraction, by="stratified", seed=seed)
    assert all(map(np.array_equal, again, (train, valid)))


@settings(max_examples=examples(100))
@given(st.lists(st.integers(1, 9), min_size=2, max_size=8), FRACTIONS, SEEDS)
def test_by_speaker(takes, fraction, seed):
    # speaker 10 s speaks each of two classes takes[s] times
    speakers = np.repeat(10 * np.arange(len(takes)), 2 * np.array(takes))
    labels = np.arange(len(speakers)) % 2
    train, valid = hold_out(labels, speakers, fraction=fraction, by="speaker", seed=seed)
    check_partition(train, valid, len(labels))
    assert not set(speakers[train]) & set(speakers[valid])
    again = hold_out(labels.tolist(), torch.tensor(speakers), fraction=fraction, seed=seed)  # and "auto" is the same
    assert all(map(np.array_equal, again, (train, valid)))
    assert abs(len(set(speakers[valid])) - fraction * len(takes)) <= 0.5 or len(set(speakers[valid])) in (
        1,
        len(takes) - 1,
    )
    following = hold_out(labels, speakers, fraction=fraction, by="speaker", seed=seed + 1)
    assert set(speakers[following[1]]) != set(speakers[valid])


@pytest.mark.parametrize(("fraction", "held"), [(0.01, 1), (0.1, 1), (0.2, 2), (0.24, 2), (0.26, 3), (0.99, 9)])
def test_the_number_of_speakers_is_the_nearest(fraction, held):
    speakers = np.arange(10).repeat(7)
    _, valid = hold_out(np.zeros(70, int), speakers, fraction=fraction, by="speaker")
    assert len(valid) == 7 * held


@pytest.mark.parametrize("by", ["speaker", "stratified"])
def test_the_seed_matters(by):
    labels, speakers = np.arange(200) % 2, np.arange(200) // 20
    splits = {tuple(hold_out(labels, speakers, by=by, seed=seed)[1]) for seed in range(10)}
    assert len(splits) > 1


def test_pairs_of_speakers_go_round():
    who = [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
    labels, speakers = np.arange(200) % 2, np.repeat(who[::-1], 20)
    held = [np.unique(speakers[hold_out(labels, speakers, seed=seed)[1]]).tolist() for seed in range(6)]
    assert held == [[0, 1], [2, 3], [6, 7], [8, 9], [10, 11], [0, 1]]
    assert [list(fold) for fold in speaker_folds(speakers)] == held[:5]
    three = [hold_out(labels, speakers, fraction=0.3, seed=seed)[1] for seed in (3, 4)]
    assert [np.unique(speakers[each]).tolist() for each in three] == [[0, 1, 11], [2, 3, 6]]
    assert speaker_folds([4, 1, 9, 9]) == [(1, 4), (9,)]


def test_named_speakers_are_held_out():
    labels, speakers = np.array([0, 1, 0, 1, 0, 1]), np.array([5, 5, 3, 3, 8, 8])
    train, held = hold_out_speakers(labels, speakers, (8, 5))
    assert (train.tolist(), held.tolist()) == ([2, 3], [0, 1, 4, 5])
    check_partition(train, held, 6)
    for who, message in {
        (4,): r"held: expected speakers among \[3, 5, 8\], got \[4\]",
        (3, 5, 8): "held: expected fewer than all speakers",
    }.items():
        with pytest.raises(ArgumentError, match=message):
            hold_out_speakers(labels, speakers, who)
    with pytest.raises(ArgumentError, match=r"label 7 only by the held-out .* Hold out fewer speakers"):
        hold_out_speakers([7, 1, 0, 1, 0, 1], speakers, (5,))


def test_auto():
    labels = np.array([0, 1] * 10)
    for speakers in (None, np.zeros(20, int)):
        assert all(map(np.array_equal, hold_out(labels, speakers), hold_out(labels, speakers, by="stratified")))
    speakers = np.arange(20) // 2
    assert all(map(np.array_equal, hold_out(labels, speakers), hold_out(labels, speakers, by="speaker")))
    _, valid = hold_out(labels, speakers, by="stratified")
    assert np.bincount(labels[valid]).tolist() == [2, 2]


def test_no_class_may_lose_its_training():
    labels, speakers = np.array([0, 1, 2, 3]), np.array([0, 0, 1, 1])
    with pytest.raises(ArgumentError, match=r"speakers: expected every class .* only by the held-out \[\d\]"):
        hold_out(labels, speakers, by="speaker")


ARGUMENTS = {
    "fraction 0": ({"fraction": 0}, "fraction: expected a number between 0 and 1"),
    "fraction 1": ({"fraction": 1.0}, "fraction"),
    "fraction nan": ({"fraction": float("nan")}, "fraction"),
    "by": ({"by": "class"}, "by: expected one of auto, speaker, stratified, got 'class'"),
    "seed": ({"seed": -1}, "seed: expected an integer >= 0"),
    "seed none": ({"seed": None}, "seed"),
    "labels of two dimensions": ({"labels": [[0, 1]]}, "labels: expected integers"),
    "labels floats": ({"labels": [0.0, 1.0, 0.0, 1.0]}, "labels"),
    "speakers too few": ({"speakers": [0, 1]}, r"speakers: expected one per recording, \(4,\)"),
    "speakers unknown": ({"speakers": None, "by": "speaker"}, "speakers: expected two or more, got None"),
    "one speaker": ({"speakers": [3] * 4, "by": "speaker"}, "speakers: expected two or more, got only one"),
    "nothing to hold out": ({"labels": [0, 1, 2, 3], "by": "stratified"}, "labels: expected a class with two"),
}


@pytest.mark.parametrize(("changes", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_impossible_arguments(changes, message):
    arguments = {"labels": [0, 1, 0, 1], "speakers": [0, 0, 1, 1]} | changes
    with pytest.raises(ArgumentError, match=message):
        hold_out(arguments.pop("labels"), arguments.pop("speakers"), **arguments)
