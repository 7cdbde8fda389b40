"""What `freeze_delays` reports, printed."""

import torch
from torch import nn

from delayplug import Change, Costs, Freezing
from delayplug.deploy.costs import LayerCost

MODEL = nn.Identity()
CHANGES = (
    Change("fc1", "rounded", 1200, 2400, 0.25, 0.5),
    Change("fc1", "weights in 4 bits", 2400, 2400, 0.00725, 0.0158),
    Change("", "rounded", 3, 12, 0.1, 0.4),
)


def test_table_has_a_row_per_change_and_counts_layers_once() -> None:
    lines = str(Freezing(MODEL, CHANGES, Costs(20_000, 9600), Costs(12_800, 2400))).splitlines()
    assert lines[0] == "2 layers with frozen delays"
    rows = [line.split() for line in lines]
    assert ["layer", "change", "moved", "of", "mean", "largest"] in rows
    assert ["fc1", "rounded", "1,200", "2,400", "0.25", "0.5"] in rows
    assert ["fc1", "weights", "in", "4", "bits", "2,400", "2,400", "0.00725", "0.0158"] in rows
    assert ["(model)", "rounded", "3", "12", "0.1", "0.4"] in rows
    assert ["state,", "bytes", "20,000", "12,800"] in rows
    assert ["delays", "in", "it,", "bytes", "9,600", "2,400"] in rows


def test_totals_are_those_that_were_measured() -> None:
    bare = str(Freezing(MODEL, CHANGES, Costs(10, 5), Costs(8, 3)))
    assert not any(word in bare for word in ("packed", "operations", "events", "score"))
    before, after = Costs(10, 5, (LayerCost("fc1", 3260, 2600),)), Costs(8, 3, (LayerCost("fc1", 260, 200.4),))
    rows = [line.split() for line in str(Freezing(MODEL, CHANGES, before, after, (0.91234, 0.9), {}, 310)).splitlines()]
    assert ["packed", "to", "the", "bit,", "bytes", "310"] in rows
    assert ["operations", "per", "step", "3,260", "260"] in rows
    assert ["events", "per", "step", "2,600", "200"] in rows
    assert ["score", "0.9123", "0.9"] in rows


def test_no_change_is_said_in_words() -> None:
    lines = str(Freezing(MODEL, (), Costs(10, 5), Costs(10, 5))).splitlines()
    assert lines[0] == "No layer was frozen."
    assert "moved" not in "".join(lines)


def test_scales_are_not_shared_between_reports() -> None:
    first, second = (Freezing(MODEL, (), Costs(0, 0), Costs(0, 0)) for _ in range(2))
    first.scales["fc1"] = torch.ones(3)
    assert second.scales == {}
