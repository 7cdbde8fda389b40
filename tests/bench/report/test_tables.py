"""A comparison in numbers."""

from typing import Any

import pytest

from delayplug._tables import to_text
from delayplug.bench.report.tables import computed_by, planted_means, student, table, wilson
from tests.bench.runs import Comparison


def test_intervals_over_seeds() -> None:
    assert student([0.5, 0.7]) == pytest.approx(12.706 * 0.1)  # half a difference of 0.2, times t
    assert student([0.5, 0.6, 0.7]) == pytest.approx(4.303 * 0.1 / 3**0.5)


def test_wilson_interval() -> None:
    low, high = wilson(0.95, 2264)
    assert (low, high) == pytest.approx((0.9402, 0.9583), abs=2e-4)  # +-0.9 points, as for SHD
    assert wilson(1.0, 100)[0] > 0.95


@pytest.mark.trains
def test_table(comparison: Comparison) -> None:
    records = comparison.records
    text = to_text(table(records), width=160)
    for word in ("spikingjelly", "none", "fixed", "learned", "epoch %", "valid. %", "planted r", "496"):
        assert word in text
    assert f"{100 * records[2]['accuracy']['last epoch']:.1f}" in text


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
