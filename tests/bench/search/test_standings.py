"""The tables of a sweep."""

import pytest

from delayplug._tables import to_text
from delayplug.bench.report.intervals import half_difference, student
from delayplug.bench.search.standings import conclusion, effects, first_accuracy, groups, ranked, standings
from tests.bench.search.sweeps import record, trial


def test_settings_are_sorted_by_runs_and_accuracy() -> None:
    assert [each["number"] for each in ranked(record())] == [2, 4, 0, 1, 3]


def test_the_table_of_settings() -> None:
    shown = to_text(standings(record()), 140)
    rows = {line.split()[0]: line.split() for line in shown.splitlines() if line.strip()[:1].isdigit()}
    half = student([0.10, 0.08])
    assert rows["2"] == ["2", "0.03", "8", "8", "2", "61.0", "+-12.7", "+9.0", f"+-{100 * half:.1f}", "chosen"]
    single = 100 * half_difference([(0.4, 0.5)], 400)
    assert rows["1"][-4:] == ["+-4.8", "-10.0", f"+-{single:.1f}", "stopped"]
    assert rows["0"][-1] == "preset"
    assert rows["3"] == ["3", "0.09", "4", "0", "refused"]
    assert "digits: 5 settings tried" in shown
    assert "Accuracy on speakers held out of training, folds 0, 1, seed 0; the test set was not read." in " ".join(
        shown.split()
    )


def test_many_settings_are_cut_but_for_the_preset() -> None:
    many = record(trials=[trial(0, [0.1, 0.1]), *(trial(n, [0.5, n / 100]) for n in range(1, 30))])
    shown = to_text(standings(many), 140)
    assert " preset" in shown
    assert "9 more are in sweep.json." in shown


def test_without_a_baseline_nothing_is_compared_with_it() -> None:
    found = record(trials=[{**trial(1, [0.5, 0.6]), "number": 0}], chosen={"number": 0, "reason": "the only one"})
    assert "over the" not in to_text(standings(found), 140)


def test_groups_by_value() -> None:
    found = record()
    assert [first_accuracy(found, each) for each in found["trials"]] == [0.50, 0.40, 0.60, None, 0.55]
    by_rate = groups(found, "lr")
    assert [name for name, _ in by_rate] == ["0.001 to 0.004642", "0.004642 to 0.02154", "0.02154 to 0.1"]
    assert [accuracies for _, accuracies in by_rate] == [[0.40], [0.50], [0.60, 0.55]]
    assert groups(found, "hidden") == [("4", [0.50, 0.40, 0.55]), ("8 8", [0.60])]
    shown = to_text(effects(found), 140)
    assert ["hidden", "4", "3", "48.3", "55.0"] in [line.split() for line in shown.splitlines()]


def test_the_ends_of_a_range_belong_to_it() -> None:
    search = {"dropout": {"low": 0.0, "high": 0.9}}
    trials = [trial(n, [value], dropout=value) for n, value in enumerate((0.0, 0.3, 0.9))]
    found = record(config={"search": search}, trials=trials, rungs=[1])
    assert groups(found, "dropout") == [("0 to 0.3", [0.0]), ("0.3 to 0.6", [0.3]), ("0.6 to 0.9", [0.9])]


def test_the_conclusion() -> None:
    chosen, luck, test = conclusion(record())
    assert chosen == "Chosen: setting 2 (lr 0.03, hidden 8 8): the highest mean accuracy."
    assert "luck" in luck
    assert test == "Test set: 59.0 +-12.7 % (400 recordings, 2 seeds, read for this setting alone)."
    _, luck, test = conclusion(record(final=[]))
    assert "test set" not in luck
    assert test == "The test set was not read."
    assert conclusion(record(chosen=None, final=[])) == ["Nothing is chosen yet."]


@pytest.mark.parametrize("accuracies", [[], [0.5]])
def test_a_record_of_a_sweep_under_way(accuracies: list[float]) -> None:
    found = record(trials=[trial(0, accuracies, "open")], chosen=None, final=[])
    assert to_text(standings(found), 100)
    assert to_text(effects(found), 100)


def test_what_became_of_a_setting_is_legible_beside_many_values() -> None:
    setting = {"lr": 0.00764, "hidden": [64, 64], "neuron": "adlif", "reset": "zero", "dropout": 0.5}
    many = record()
    many["config"]["search"] = {name: {"values": [value]} for name, value in setting.items()}
    for each in many["trials"]:
        each["values"] = dict(setting)
    shown = to_text(standings(many), 80)
    assert max(map(len, shown.splitlines())) <= 80
    assert {"chosen", "stopped", "refused", "preset"} <= set(shown.split())
    assert "…" not in shown


def test_more_values_than_a_terminal_has_columns_for_share_one() -> None:
    setting = {"channel_shift": 8, "neuron_lr": 0.00764, "hidden": [64, 64], "readout": "mean", "dropout": 0.5}
    setting |= {"neuron": "adlif", "recurrent": "synaptic", "max_delay": 24, "weight_decay": 1e-05}
    many = record()
    many["config"]["search"] = {name: {"values": [value]} for name, value in setting.items()}
    for each in many["trials"]:
        each["values"] = dict(setting)
    shown = to_text(standings(many), 80)
    assert max(map(len, shown.splitlines())) <= 80
    assert {"chosen", "stopped", "refused", "preset", "setting", "racy"} <= set(shown.split())
    assert "…" not in shown
    assert "channel_shift 8, neuron_lr" in " ".join(shown.split())
