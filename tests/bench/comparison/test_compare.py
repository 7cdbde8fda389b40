"""Comparisons: which runs there are, and which of them are made."""

from pathlib import Path
from typing import Any

import pytest

from delayplug import ArgumentError, BackendMissingError, RunError, UnknownBackendError
from delayplug.bench.comparison import compare as compare_module
from delayplug.bench.comparison.compare import compare, configurations, make_runs
from delayplug.bench.config import RunConfig, configure
from delayplug.bench.resources import Resources
from delayplug.toolkits import plugins
from tests.bench.runs import Comparison, write_recordings


@pytest.mark.trains
def test_finished_runs_are_not_made_again(comparison: Comparison) -> None:
    configs, out, records = comparison
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert compare(configs, out) == records
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_value_given_twice_makes_one_run() -> None:
    assert len(configurations("quick", backends=["norse"], delays=["none", "fixed", "none"], seeds=[1, 1])) == 2


def test_without_any_toolkit_there_is_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "is_installed", lambda package: False)
    expected = (
        r"a toolkit that works, got none of norse \(not installed\), .*`delayplug backends` says what to install$"
    )
    with pytest.raises(BackendMissingError, match=expected):
        configurations("quick")


def test_a_run_for_each_fold(tmp_path: Path) -> None:
    write_recordings(tmp_path / "d_train.h5", 40, speakers=5)
    write_recordings(tmp_path / "d_test.h5", 4)
    changes = {"dataset": str(tmp_path), "protocol": "speakers", "backends": ["norse"], "delays": ["none"]}
    assert [(c.seed, c.fold) for c in configurations("shd", **changes, seeds=[0, 1])] == [
        (seed, fold) for seed in (0, 1) for fold in range(3)
    ]
    assert [c.fold for c in configurations("shd", **changes, folds=[2, 0])] == [2, 0]
    with pytest.raises(ArgumentError, match=r"folds: expected 0 to 2: .* has 3 folds, got 3"):
        configurations("shd", **changes, folds=[0, 3])  # before fold 0 is trained
    (named,) = configurations("shd", **changes, held_speakers=[1, 4])
    assert (named.fold, named.held_speakers) == (0, (1, 4))


@pytest.mark.trains
def test_one_folder_of_folds_and_refits(tmp_path: Path) -> None:
    """Their records say what was tested on; checksums agree where the same files were read."""
    write_recordings(tmp_path / "d_train.h5", 40, speakers=5)
    write_recordings(tmp_path / "d_test.h5", 12)
    small = {"backends": ["spikingjelly"], "delays": ["none"], "epochs": 2, "hidden": (4,), "batch_size": 16}
    folds = configurations("shd", dataset=str(tmp_path), protocol="speakers", **small)
    refits = configurations("shd", dataset=str(tmp_path), refit=True, seeds=[0, 1], **small)
    *found, first, second = compare([*folds, *refits], tmp_path / "runs", resources=Resources("cpu"))
    for fold, record in enumerate(found):
        assert record["accuracy"].keys() == {"last epoch"}
        assert record["accuracy"]["last epoch"] == record["epochs"][-1]["valid_accuracy"]
        assert record["best_epoch"] == 2
        assert record["data"]["held_speakers"] == [[0, 1], [2, 3], [4]][fold]
        assert record["data"]["test"] == (16, 16, 8)[fold]
        assert record["data"]["tested_on"].endswith("of the training file, held out of training")
        assert record["data"]["checksums"].keys() == {"train"}
        assert "held_out" not in record
    for record in (first, second):
        assert record["accuracy"].keys() == {"last epoch"}
        assert record["data"]["tested_on"] == "the test set"
        assert (record["data"]["train"], record["data"]["valid"], record["data"]["test"]) == (40, 8, 12)
        assert [entry["valid_accuracy"] for entry in record["epochs"]] == [None, None]
        assert record["held_out"]["accuracy"] == record["held_out"]["epochs"][-1]["valid_accuracy"]
    assert first["data"]["held_speakers"] == [0]
    assert second["data"]["held_speakers"] == [1]


@pytest.mark.trains
def test_runs_in_folders_of_their_own_go_on_where_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two have one name, and the second fails."""
    small = {"backend": "spikingjelly", "delays": "none", "epochs": 1, "hidden": (4,), "max_delay": 4}
    configs = [configure("quick", lr=lr, **small) for lr in (0.001, 0.002, 0.003)]
    folders = {config: tmp_path / str(n) for n, config in enumerate(configs)}
    make_run = compare_module.make_run

    def fail(config: RunConfig, *args: Any, **how: Any) -> None:
        if config is configs[1]:
            raise RunError("no more memory")
        make_run(config, *args, **how)

    monkeypatch.setattr(compare_module, "make_run", fail)
    failures: dict[RunConfig, str] = {}
    note = lambda config, error: failures.update({config: str(error)})  # noqa: E731
    made = make_runs(folders, failed=note, resources=Resources("cpu"))
    assert failures == {configs[1]: "no more memory"}
    assert [made[config]["config"]["lr"] for config in (configs[0], configs[2])] == [0.001, 0.003]
    assert configs[1] not in made
    assert (tmp_path / "2" / configs[2].name / "record.json").exists()
    with pytest.raises(RunError, match="no more memory"):
        make_runs(folders, resources=Resources("cpu"))


def test_unknown_backends() -> None:
    with pytest.raises(UnknownBackendError, match="Did you mean 'snntorch'"):
        configurations("quick", backends=["snntroch"])


def test_out_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="out: expected a folder that can be written to"):
        compare([configure("quick", backend="norse")], tmp_path / "file")


def test_unknown_accelerator(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"accelerator: expected .* got 'abacus'"):
        compare([configure("quick", backend="norse")], tmp_path, resources=Resources("abacus"))
