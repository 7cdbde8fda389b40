"""Sweeps, from the first draw to the test set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from delayplug import ArgumentError, BackendError, DataError, RunError
from delayplug.bench.comparison.compare import configurations
from delayplug.bench.config import RunConfig
from delayplug.bench.search.sweep import CHOSEN, FINAL, left_to_do, sweep
from delayplug.bench.search.trials import Sweep, read_sweep_record
from delayplug.bench.serialise import read_toml
from tests.bench.runs import write_recordings
from tests.bench.search.sweeps import SEARCH, SMALL, config_of, execution

pytestmark = pytest.mark.trains


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of six speakers, three folds of two, and no test file that could be read."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("digits")
    write_recordings(folder / "digits_train.h5", 36, speakers=6, seconds=0.2)
    (folder / "digits_test.h5").write_bytes(b"damaged")
    return folder


def on(digits: Path, options: str) -> str:
    return f"dataset = '{digits}'\n{options}{SMALL}{SEARCH}"


def results(record: Sweep) -> list[dict[str, Any]]:
    """All that a sweep found, without times."""
    return json.loads(json.dumps([record["trials"], record["chosen"], record["final"]]))


OPTIONS = "budget = 4\nfolds = [0, 2]\nfinal_seeds = []\nat_once = 2\n"


@pytest.fixture(scope="module")
def whole(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep that was not interrupted: five settings on fold 0, some of them on fold 2."""
    out = tmp_path_factory.mktemp("whole")
    return sweep(
        config_of(out, on(digits, OPTIONS)), out / "sweep", command="delayplug bench sweep x", execution=execution()
    )


def test_settings_are_judged_by_held_out_speakers_alone(whole: Sweep) -> None:
    """The test file is damaged, and nobody noticed."""
    assert [trial["number"] for trial in whole["trials"]] == [0, 1, 2, 3, 4]
    assert whole["rungs"] == [1, 2]
    assert whole["trials"][0]["baseline"]
    assert whole["trials"][0]["values"] == {"lr": 5e-3, "dropout": 0.4}
    for trial in whole["trials"]:
        assert [run["fold"] for run in trial["runs"]] == [0, 2][: len(trial["runs"])]
        assert all(run["recordings"] == 12 for run in trial["runs"])
        assert trial["state"] == ("judged" if len(trial["runs"]) == 2 else "stopped")
    first = [trial["runs"][0]["accuracy"] for trial in whole["trials"]]
    order = sorted(range(1, 5), key=lambda n: (-first[n], n))
    judged = {trial["number"] for trial in whole["trials"] if trial["state"] == "judged"}
    assert judged == {*order[:2], 0}
    assert whole["trials"][order[-1]]["reason"] == "number 4 of 4 after 1 run, of which 2 go on"
    assert whole["chosen"] is not None
    means_of = {n: sum(run["accuracy"] for run in whole["trials"][n]["runs"]) for n in judged}
    assert means_of[whole["chosen"]["number"]] == max(means_of.values())
    assert whole["chosen"]["reason"].endswith(f"%, of the {len(judged)} settings, of 5 tried, that have all 2 runs")
    assert whole["final"] == []
    assert whole["versions"].keys() >= {"python", "torch", "delayplug", "optuna"}


class Interrupt:
    """Ctrl-C when the run of a number begins."""

    def __init__(self, at: int) -> None:
        self.runs, self.at = 0, at

    def __call__(self, config: RunConfig, entry: object) -> None:
        if entry is None:
            self.runs += 1
            if self.runs == self.at:
                raise KeyboardInterrupt


@pytest.mark.parametrize("at", [1, 2, 5, 7])
def test_an_interrupted_sweep_ends_as_if_it_had_not_been(at: int, whole: Sweep, digits: Path, tmp_path: Path) -> None:
    """In the first batch of three, in the second, and in the second rung."""
    config, out = config_of(tmp_path, on(digits, OPTIONS)), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        sweep(config, out, execution=execution(watch=Interrupt(at)))
    begun = read_sweep_record(out)
    assert begun is not None
    assert [trial["values"] for trial in begun["trials"]] == [
        trial["values"] for trial in json.loads(json.dumps(whole["trials"][: len(begun["trials"])]))
    ]
    seen = Interrupt(0)
    said: list[str] = []
    assert results(sweep(config, out, execution=execution(watch=seen, say=said.append))) == results(whole)
    total = sum(len(trial["runs"]) for trial in whole["trials"])
    assert seen.runs == total - (at - 1)
    assert bool(said) == (at > 1)


def test_a_lost_record_is_made_again_from_the_runs(whole: Sweep, digits: Path, tmp_path: Path) -> None:
    config, out = config_of(tmp_path, on(digits, OPTIONS)), tmp_path / "out"
    sweep(config, out, execution=execution())
    (out / "sweep.json").unlink()
    seen = Interrupt(0)
    assert results(sweep(config, out, execution=execution(watch=seen))) == results(whole)
    assert seen.runs == 0


def test_the_test_set_is_read_at_the_end_by_the_chosen_setting(digits: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "digits_train.h5").write_bytes((digits / "digits_train.h5").read_bytes())
    (data / "digits_test.h5").write_bytes(b"damaged")
    options = "budget = 2\nfolds = [1]\nfinal_seeds = [3, 4]\n"
    config, out = config_of(tmp_path, on(data, options)), tmp_path / "out"
    with pytest.raises(DataError, match="digits_test"):
        sweep(config, out, execution=execution())
    before = read_sweep_record(out)
    assert before is not None
    assert before["chosen"] is not None
    assert before["finished"] == ""
    number = before["chosen"]["number"]
    assert left_to_do(out) == f"run again to test setting {number}, which was chosen"

    write_recordings(data / "digits_test.h5", 10)
    seen = Interrupt(0)
    record = sweep(config, out, execution=execution(watch=seen))
    assert seen.runs == 2
    assert record["finished"]
    assert [(run["seed"], run["recordings"]) for run in record["final"]] == [(3, 10), (4, 10)]
    for run in record["final"]:
        made = json.loads((out / run["folder"] / "record.json").read_text())
        assert run["folder"].startswith(f"{FINAL}/")
        assert (made["config"]["protocol"], made["config"]["refit"]) == ("heldout", True)
        assert made["data"]["train"] == 36
        assert run["accuracy"] == made["accuracy"]["last epoch"]
        assert {name: made["config"][name] for name in ("lr", "dropout")} == before["trials"][number]["values"]
    chosen = read_toml(out / CHOSEN)
    (again,) = configurations(chosen.pop("preset"), **chosen)
    assert again.to_json() == json.loads((out / record["final"][0]["folder"] / "record.json").read_text())["config"]
    assert sweep(config, out, execution=execution())["finished"] == record["finished"]


def test_data_with_a_validation_file(digits: Path, tmp_path: Path) -> None:
    for part, number in (("train", 24), ("valid", 8), ("test", 6)):
        write_recordings(tmp_path / f"digits_{part}.h5", number)
    options = "budget = 1\nbaseline = false\nsampler = 'random'\nseeds = [0, 1]\nhalving = 1\nfinal_seeds = [0]\n"
    record = sweep(config_of(tmp_path, on(tmp_path, options)), tmp_path / "out", execution=execution())
    (trial,) = record["trials"]
    assert [(run["fold"], run["seed"], run["recordings"]) for run in trial["runs"]] == [(None, 0, 8), (None, 1, 8)]
    assert record["final"][0]["recordings"] == 6
    made = json.loads((tmp_path / "out" / trial["runs"][0]["folder"] / "record.json").read_text())
    assert made["data"]["tested_on"] == "the validation recordings"
    assert made["data"]["checksums"].keys() == {"train", "valid"}


def test_another_sweep_in_the_folder_is_refused(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = config_of(tmp_path, on(digits, OPTIONS))
    with pytest.raises(KeyboardInterrupt):
        sweep(config, out, execution=execution(watch=Interrupt(2)))
    before = (out / "sweep.json").read_bytes()
    with pytest.raises(RunError, match=r"is of another sweep \(budget: 4 there, 9 here\)"):
        sweep(config_of(tmp_path, on(digits, OPTIONS.replace("4", "9"))), out, execution=execution())
    assert (out / "sweep.json").read_bytes() == before
    assert left_to_do(out) == "run again to go on; finished runs: 1"
    assert left_to_do(tmp_path) == "run again to begin"


def test_values_that_do_not_go_together_are_refused_and_the_sweep_goes_on(digits: Path, tmp_path: Path) -> None:
    search = "[search]\ntaps = { values = [1, 2] }\ndelays = { values = ['learned', 'axonal'] }\n"
    options = "budget = 9\nsampler = 'grid'\nbaseline = false\nfolds = [0]\nfinal_seeds = []\n"
    text = f"dataset = '{digits}'\n{options}{SMALL}{search}".replace('delays = "learned"\n', "")
    record = sweep(config_of(tmp_path, text), tmp_path / "out", execution=execution())
    states = {(trial["values"]["taps"], trial["values"]["delays"]): trial["state"] for trial in record["trials"]}
    judged = dict.fromkeys([(1, "learned"), (1, "axonal"), (2, "learned")], "judged")
    assert states == judged | {(2, "axonal"): "refused"}
    (refused,) = (trial for trial in record["trials"] if trial["state"] == "refused")
    assert "taps: expected 1 for the variant 'axonal'" in refused["reason"]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[RunConfig], bool]], None]:
    """Have the runs fail for which a function says so."""
    from delayplug.bench.comparison import compare

    make_run = compare.make_run

    def install(which: Callable[[RunConfig], bool]) -> None:
        def fail(config: RunConfig, *args: Any, **how: Any) -> None:
            if which(config):
                raise ArgumentError("delay", "finite values in steps", "NaN", "Training diverged")
            make_run(config, *args, **how)

        monkeypatch.setattr(compare, "make_run", fail)

    return install


def test_a_setting_that_cannot_be_trained_is_out(failing: Any, whole: Sweep, digits: Path, tmp_path: Path) -> None:
    rate = whole["trials"][1]["values"]["lr"]
    failing(lambda config: config.lr == rate)
    config = config_of(tmp_path, on(digits, OPTIONS))
    record = sweep(config, tmp_path / "out", execution=execution())
    failed = record["trials"][1]
    assert (failed["state"], failed["runs"]) == ("failed", [])
    assert failed["reason"].startswith("fold 0, seed 0: ArgumentError: delay: expected finite values")
    assert [trial["number"] for trial in record["trials"] if trial["state"] == "failed"] == [1]
    assert record["chosen"] is not None
    assert record["chosen"]["number"] != 1


def test_where_all_settings_fail_the_sweep_ends(failing: Any, digits: Path, tmp_path: Path) -> None:
    failing(lambda config: True)
    config = config_of(tmp_path, on(digits, "budget = 9\nfolds = [0]\nfinal_seeds = []\n"))
    with pytest.raises(RunError, match=r"5 settings in a row failed\. fold 0, seed 0: ArgumentError: delay"):
        sweep(config, tmp_path / "out", execution=execution())
    few = config_of(tmp_path, on(digits, "budget = 1\nfolds = [0]\nfinal_seeds = []\n"))
    with pytest.raises(RunError, match="none of 2 settings could be judged: fold 0, seed 0: ArgumentError"):
        sweep(few, tmp_path / "few", execution=execution())


def test_runs_that_change_the_choice_after_the_test_are_noticed(digits: Path, tmp_path: Path) -> None:
    for part, number in (("train", 24), ("valid", 8), ("test", 6)):
        write_recordings(tmp_path / f"digits_{part}.h5", number)
    config, out = config_of(tmp_path, on(tmp_path, "budget = 1\nhalving = 1\nfinal_seeds = [0]\n")), tmp_path / "out"
    record = sweep(config, out, execution=execution())
    assert record["chosen"] is not None
    other = record["trials"][1 - record["chosen"]["number"]]["runs"][0]["folder"]
    path = out / other / "record.json"
    changed = json.loads(path.read_text())
    changed["accuracy"]["last epoch"] = 1.0
    path.write_text(json.dumps(changed))
    with pytest.raises(RunError, match="the test set was read for setting"):
        sweep(config, out, execution=execution())


def test_what_is_refused_before_anything_is_written(digits: Path, tmp_path: Path) -> None:
    text = on(digits, OPTIONS)
    with pytest.raises(BackendError, match="Did you mean 'spikingjelly'"):
        sweep(config_of(tmp_path, text.replace("spikingjelly", "spikingjely")), tmp_path / "out")
    with pytest.raises(ArgumentError, match=r"search\.lr: expected values, or a range with a step"):
        sweep(config_of(tmp_path, f"sampler = 'grid'\n{text}"), tmp_path / "out")
    with pytest.raises(DataError, match="nowhere"):
        sweep(config_of(tmp_path, text.replace(str(digits), "nowhere")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_settings_side_by_side(digits: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path, on(digits, "budget = 1\nfolds = [0]\nfinal_seeds = []\n"))
    here = sweep(config, tmp_path / "here", execution=execution())
    there = sweep(config, tmp_path / "there", execution=execution(launcher="local"))
    assert results(there) == results(here)
