"""A comparison in numbers."""

from typing import Any

import pytest

from delayplug._tables import to_text
from delayplug.bench.config import configure
from delayplug.bench.report.tables import chosen_by, computed_by, planted_means, recipe_of, table, title_of
from tests.bench.runs import Comparison, folds_and_refits, record_of


@pytest.mark.trains
def test_table(comparison: Comparison) -> None:
    records = comparison.records
    text = to_text(table(records), width=160)
    for word in ("spikingjelly", "none", "fixed", "learned", "epoch %", "valid. %", "planted r", "496"):
        assert word in text
    assert f"{100 * records[2]['accuracy']['last epoch']:.1f}" in text


def test_table_of_folds_and_refits() -> None:
    text = to_text(table(folds_and_refits()), width=120)
    lines = [line.split() for line in text.splitlines()]
    assert ["norse", "none", "51.0", "-24.0", "61.0", "-32.5", "1,000", "0.50"] in lines
    assert ["learned", "75.0", "93.5", "1,000", "0.50"] in lines
    assert ["learned,", "tau", "2,", "78.0", "+3.0", "95.0", "+2.0", "1,000", "0.50"] in lines
    words = " ".join(text.split())
    assert "d: 2 classes, preset shd, 150 epochs, 2 seeds" in words
    assert "Test accuracy on 2,264 recordings; validation: training recordings held out, all of the speakers" in words
    assert "then trained on all training recordings, and tested" in words
    assert "Held-out speakers: 2 groups of training speakers, (0, 1), (2, 3); no epoch was chosen" in words
    assert "gain in points over learned delays with the preset's values (the paper's recipe), by pairs of runs" in words


def test_table_of_held_out_speakers_alone() -> None:
    """It names no test set but to say that it was not read."""
    records = [record for record in folds_and_refits() if record["config"]["protocol"] == "speakers"]
    text = to_text(table(records), width=120)
    assert "last" not in text
    assert "Test accuracy" not in text
    assert " ".join(text.split()).count("no epoch was chosen") == 1


def test_nothing_is_cut_in_a_terminal_of_80_characters() -> None:
    records = []
    for n, each in enumerate(folds_and_refits()):
        config = {**each["config"], "backend": "spikingjelly"}
        config |= {"max_delay": 12, "window_ms": 1000.0} if n < 4 else {}
        records.append({**each, "config": config, "parameters": 216_064})
    shown = to_text(table(records), width=80)  # type: ignore[arg-type]
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    assert {"speakers", "over", "last"} <= set(shown.split())


def test_held_out_recordings_of_a_validation_file() -> None:
    """The protocol "validation" does not say both that nothing and that something is held out."""
    record = record_of(configure("quick", backend="norse", delays="none", protocol="validation"), 0.5)
    record["data"]["split"] = "none: nothing is chosen, and the validation recordings are tested on (a file)"
    record["data"]["tested_on"] = "the validation recordings"
    words = " ".join(to_text(table([record])).split())
    assert "Held-out recordings: the validation recordings are tested on (a file); no epoch was chosen." in words


def test_what_the_table_says_that_all_share() -> None:
    records = [record_of(configure("shd", dataset="d", backend="norse", epochs=9, tau=2.0), 0.9)]
    assert title_of(records) == "d: 2 classes, preset shd with tau 2, 9 epochs, 1 seed"
    assert recipe_of(records) == "learned delays with the preset's values but tau 2, epochs 9, as all runs have"
    assert chosen_by(records) == ""
    rules = [
        {**records[0], "accuracy": {"last epoch": 0.5, rule: 0.6}} for rule in ("best on validation", "best on test")
    ]
    assert chosen_by(rules) == "best on test or on validation"


def test_what_computed_the_runs() -> None:
    def record(backend: str, **machine: str) -> Any:
        return {"config": {"backend": backend, "precision": "medium"}, "machine": {"device": "gpu", **machine}}

    records = [
        record("norse", name="H100", neurons="compiled loop"),
        record("norse", name="H100", neurons="compiled loop"),
        record("spikingjelly", name="H200", neurons="spikingjelly: triton"),
    ]
    assert computed_by(records) == (
        "Computed on H100 and H200, float32 precision medium; neurons by norse: compiled loop, spikingjelly: triton"
    )
    old = {"config": {}, "machine": {"device": "2 x gpu"}}
    assert computed_by([old]) == "Computed on 2 x gpu, float32 precision highest"


def test_means_of_planted_correlations() -> None:
    known = {"planted_correlation": {"before training": 0.1, "after training": 0.5}}
    more = {"planted_correlation": {"before training": 0.3, "after training": 0.7}}
    undefined = {"planted_correlation": {"before training": None, "after training": None}}
    assert planted_means([known, undefined, more, {}]) == pytest.approx((0.2, 0.6))
    assert planted_means([undefined, {}]) is None
