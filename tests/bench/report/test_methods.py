"""Rows of a comparison, and what a method gains over the recipe."""

from typing import Any

import pytest

from delayplug.bench.config import configure
from delayplug.bench.report.intervals import half_difference, half_interval, student
from delayplug.bench.report.methods import (
    Estimate,
    difference,
    last_epoch,
    on_test_set,
    rows_of,
    setting_text,
    shared_settings,
)
from tests.bench.runs import folds_and_refits, record_of


def test_folds_and_refits_of_a_method_are_one_row() -> None:
    rows = rows_of(folds_and_refits())
    assert [row.name for row in rows] == ["none", "learned", "learned, tau 2, cutmix 0.5"]
    assert [(len(row.held), len(row.tested)) for row in rows] == [(2, 2), (2, 2), (2, 1)]
    none, learned, changed = rows
    assert learned.on_held == Estimate(0.75, student([0.80, 0.70]))
    assert learned.on_test == Estimate(0.935, student([0.93, 0.94]))
    assert changed.on_test == Estimate(0.95, half_interval([0.95], 2264))
    assert {on_test_set(record) for record in none.tested} == {True}
    assert {on_test_set(record) for record in none.held} == {False}


def test_gains_are_paired_by_seed_and_speakers() -> None:
    rows = rows_of(folds_and_refits())
    none, learned, changed = rows
    for on_test in (True, False):
        assert difference(learned, rows, on_test=on_test) is None
    gain = difference(changed, rows, on_test=False)
    assert gain is not None
    assert gain.mean == pytest.approx(0.03)  # 4 points on one fold, 2 on the other
    assert gain.half == pytest.approx(student([0.04, 0.02]))
    gain = difference(changed, rows, on_test=True)  # of the one seed that both have
    assert gain is not None
    assert (gain.mean, gain.half) == pytest.approx((0.02, half_difference([(0.95, 0.93)], 2264)))
    gain = difference(none, rows, on_test=True)
    assert gain is not None
    assert gain.percent(sign=True) == "-32.5 +-6.4"


def test_without_common_runs_there_is_no_gain() -> None:
    base = {"dataset": "d", "backend": "norse", "protocol": "speakers"}
    records = [
        record_of(configure("shd", fold=0, **base), 0.8, (0, 1)),
        record_of(configure("shd", fold=1, delays="fixed", **base), 0.7, (2, 3)),
        record_of(configure("shd", fold=0, seed=1, delays="none", **base), 0.7, (0, 1)),
    ]
    rows = rows_of(records)
    assert [difference(row, rows, on_test=False) for row in rows] == [None] * 3
    assert [difference(row, rows, on_test=True) for row in rows] == [None] * 3
    # The same speakers by name are the same speakers.
    named = {**base, "held_speakers": (2, 3)}
    rows = rows_of([*records, record_of(configure("shd", **named), 0.75, (2, 3))])
    gain = difference(next(row for row in rows if row.name == "fixed"), rows, on_test=False)
    assert gain is not None
    assert gain.mean == pytest.approx(-0.05)


def test_protocols_of_the_test_set_are_rows_of_their_own() -> None:
    """The protocol "paper" trains on more than "heldout"; speakers stand beside the refit."""
    base = {"dataset": "d", "backend": "norse"}
    records = [
        record_of(configure("shd", **base, protocol="paper"), 0.95),
        record_of(configure("shd", **base), 0.91),
        record_of(configure("shd", **base, refit=True), 0.94),
        record_of(configure("shd", **base, protocol="speakers"), 0.8, (0, 1)),
    ]
    rows = rows_of(records)
    names = ["learned, heldout", "learned, heldout, refit", "learned, paper"]
    assert [row.name for row in rows] == names
    assert [len(row.held) for row in rows] == [0, 1, 0]
    assert [row.name for row in rows_of(records[3:])] == ["learned"]
    assert [len(row.held) for row in rows_of([records[0], records[3]])] == [1]


def test_the_training_before_a_refit_is_a_run_on_held_out_speakers() -> None:
    base = {"dataset": "d", "backend": "norse"}
    before = {"held_out": {"accuracy": 0.8, "epochs": []}}
    refits = [
        record_of(configure("shd", **base, refit=True, seed=seed), 0.94, held, **before)
        for seed, held in enumerate([(0, 1), (2, 3), ()])  # of the last one, no speakers are known
    ]
    same = record_of(configure("shd", **base, protocol="speakers"), 0.8, (0, 1))
    other = record_of(configure("shd", **base, protocol="speakers", fold=4), 0.6, (10, 11))
    (row,) = rows_of([*refits, same, other])
    assert len(row.tested) == 3
    assert [(run["config"]["seed"], run["data"]["held_speakers"]) for run in row.held] == [
        (0, [0, 1]),
        (0, [10, 11]),
        (1, [2, 3]),
    ]
    assert row.on_held is not None
    assert row.on_held.mean == pytest.approx((0.8 + 0.6 + 0.8) / 3)
    assert {(run["data"]["test"], on_test_set(run)) for run in row.held} == {(1600, False)}


def test_what_all_runs_share_names_no_row() -> None:
    base = {"dataset": "d", "backend": "norse", "epochs": 30, "hidden": (8, 4)}
    changes = ({}, {"delays": "fixed"}, {"compile": True, "seed": 3}, {"taps": 2})
    records = [record_of(configure("shd", **base, **each), 0.9) for each in changes]
    assert shared_settings(records) == (("hidden", (8, 4)), ("epochs", 30))
    rows = rows_of(records)
    assert [(row.name, len(row.tested)) for row in rows] == [("fixed", 1), ("learned", 2), ("learned, taps 2", 1)]
    assert difference(rows[0], rows, on_test=True) is not None  # the recipe has these settings, too
    mixed = rows_of([*records, record_of(configure("quick", backend="norse", dataset="d"), 0.5)])
    assert mixed[0].name == "learned, preset quick"
    assert "fixed, hidden 8-4, epochs 30, preset shd" in [row.name for row in mixed]


def test_settings_in_words() -> None:
    assert setting_text("hidden", (256, 128)) == "hidden 256-128"
    assert setting_text("hidden", ()) == "hidden none"
    assert setting_text("tau", 2.0) == "tau 2"
    assert (setting_text("bias", True), setting_text("bias", False)) == ("bias", "no bias")
    assert setting_text("binning", "events") == "binning events"


def test_what_is_held_out_of_training_makes_another_row() -> None:
    base = {"dataset": "d", "backend": "norse"}
    changes = ({}, {"validation": "speaker", "seed": 1}, {"validation": "stratified"}, {"validation_fraction": 0.1})
    records = [record_of(configure("shd", **base, **each), 0.9) for each in changes]
    rows = rows_of(records)
    expected = [("heldout", 2), ("heldout, 0.1 held out", 1), ("heldout, stratified", 1)]
    assert [(row.protocol, len(row.tested)) for row in rows] == expected
    assert [row.name for row in rows] == [f"learned, {protocol}" for protocol, _ in expected]


def test_a_run_that_was_made_twice_counts_once() -> None:
    """What only says how it was judged, or by which way it was computed, makes no other run of it."""
    base = {"dataset": "d", "backend": "norse"}
    fold = {**base, "protocol": "speakers"}
    records = [
        record_of(configure("shd", **fold, fold=1), 0.8, (2, 3), finished="2026-11-26T17:00:00+00:00"),
        record_of(configure("shd", **fold, held_speakers=(2, 3)), 0.79, (2, 3)),
        record_of(configure("shd", **fold, fold=1, validate_every=10), 0.78, (2, 3)),
        record_of(configure("shd", **base, refit=True), 0.93, (0, 1)),
        record_of(configure("shd", **base, refit=True, validation_fraction=0.1), 0.94, (0,)),
    ]
    (row,) = rows_of(records)
    assert [record["accuracy"]["last epoch"] for record in row.tested] == [0.94]
    # Of the last two the training before the refit, each with other speakers held out.
    assert sorted(record["accuracy"]["last epoch"] for record in row.held) == pytest.approx([0.8, 0.83, 0.84])


def test_speakers_and_a_validation_file_are_not_averaged() -> None:
    base = {"dataset": "d", "backend": "norse"}
    of_file: Any = {**record_of(configure("shd", **base), 0.5)["data"], "tested_on": "the validation recordings"}
    validated = [
        record_of(configure("shd", **base, protocol="validation", seed=seed), 0.9, data=of_file) for seed in range(2)
    ]
    speakers = [record_of(configure("shd", **base, protocol="speakers"), 0.8, (0, 1))]
    tested = [record_of(configure("shd", **base, protocol="official"), 0.7)]
    rows = rows_of([*validated, *speakers, *tested])
    shape = [(row.name, len(row.tested), [last_epoch(record) for record in row.held]) for row in rows]
    assert shape == [("learned, official", 1, [0.8]), ("learned, validation", 0, [0.9, 0.9])]
    assert {difference(row, rows, on_test=on_test) for row in rows for on_test in (True, False)} == {None}
    (row,) = rows_of([*validated, *tested])
    assert (row.name, len(row.tested), len(row.held)) == ("learned", 1, 2)
