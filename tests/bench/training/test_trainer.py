"""One run, a comparison, and what they leave behind."""

import contextlib
import csv
import dataclasses
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from delayplug import ArgumentError, DataError, RunError, UnknownBackendError
from delayplug.bench.comparison.compare import compare, configurations
from delayplug.bench.comparison.planted import planted_correlation
from delayplug.bench.comparison.records import FORMAT, finished, make_record, read_delays, write_config
from delayplug.bench.comparison.run import Means
from delayplug.bench.config import PRESETS, RunConfig, configure, read_toml
from delayplug.bench.model.network import DelayNetwork, class_scores
from delayplug.bench.report.figures import accuracy_figure, plot_delays, plot_learning_curves
from delayplug.bench.report.page import command, read_records, write_csv, write_page
from delayplug.bench.report.tables import student, table, wilson
from delayplug.bench.task import load_task
from delayplug.bench.training.batches import training_loader
from delayplug.bench.training.trainer import Outcome, _Training, build_network, train
from delayplug.data.synthetic import TimingTask
from delayplug.toolkits.plugins import toolkit

TINY = {"epochs": 2, "hidden": (8,), "max_delay": 6}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[RunConfig], Path, list[dict]]:
    out = tmp_path_factory.mktemp("runs")
    configs = configurations("quick", backends=["spikingjelly"], delays=["none", "fixed", "learned"], **TINY)
    return configs, out, compare(configs, out, means=Means("cpu"))


@pytest.mark.trains
def test_record_holds_everything(comparison: tuple[list[RunConfig], Path, list[dict]]) -> None:
    configs, out, records = comparison
    for config, record in zip(configs, records, strict=True):
        assert json.loads((out / config.cell / "record.json").read_text()) == record
        assert record["config"] == config.to_json()
        assert {"python", "torch", "delayplug", "spikingjelly"} <= record["versions"].keys()
        assert not {"snntorch", "norse"} & record["versions"].keys()
        assert [entry["epoch"] for entry in record["epochs"]] == [1, 2]
        assert all(entry["seconds"] > 0 for entry in record["epochs"])
        assert record["accuracy"].keys() == {"last epoch", "best on validation"}
        assert all(0 <= value <= 1 for value in record["accuracy"].values())
        assert record["peak_memory_mb"] > 50
        assert record["seconds_per_epoch"] > 0
    parameters = {record["config"]["delays"]: record["parameters"] for record in records}
    synapses = 20 * 8 + 8 * 10
    assert parameters == {"none": synapses + 16, "fixed": synapses + 16, "learned": 2 * synapses + 16}


@pytest.mark.trains
def test_saved_delays(comparison: tuple[list[RunConfig], Path, list[dict]]) -> None:
    configs, out, _ = comparison
    none, fixed, learned = (read_delays(out / config.cell) for config in configs)
    assert none == []
    for before, after in fixed:
        assert torch.equal(before, after)
        assert torch.equal(before, before.round())
    for before, after in learned:
        assert not torch.equal(before, after)
        assert 0 <= float(after.min()) <= float(after.max()) <= 6


@pytest.mark.trains
def test_finished_runs_are_kept(comparison: tuple[list[RunConfig], Path, list[dict]]) -> None:
    configs, out, records = comparison
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert compare(configs, out) == records
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.trains
def test_another_configuration_is_refused(comparison: tuple[list[RunConfig], Path, list[dict]]) -> None:
    configs, out, _ = comparison
    other = dataclasses.replace(configs[0], epochs=3)
    with pytest.raises(RunError, match=r"epochs: 2 there, 3 here.*--out"):
        compare([other], out)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 3, "config": [1]}', "\xff"])
def test_unreadable_record(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.pt").touch()
    (tmp_path / "record.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(RunError, match=r"record\.json: expected the record of a run"):
        finished(tmp_path, RunConfig())


@pytest.mark.trains
def test_same_seed_same_result() -> None:
    config = configure("quick", backend="snntorch", **TINY)
    task = load_task(config)
    first, second = (train(config, task, accelerator="cpu") for _ in range(2))
    for name, value in first.state.items():
        assert torch.equal(value, second.state[name]), name
    without = [{k: v for k, v in e.items() if k not in ("seconds", "waited")} for e in first.epochs]
    assert without == [{k: v for k, v in e.items() if k not in ("seconds", "waited")} for e in second.epochs]
    other = train(dataclasses.replace(config, seed=1), task, accelerator="cpu")
    assert not torch.equal(first.state["synapses.0.weights.weight"], other.state["synapses.0.weights.weight"])


@pytest.mark.trains
def test_accuracy_is_exact_and_does_not_depend_on_batches() -> None:
    config = configure("quick", backend="spikingjelly", **TINY)
    task = load_task(config)
    outcome = train(config, task, accelerator="cpu")
    network = build_network(config, task)
    network.load_state_dict(outcome.state)
    network.eval()
    with torch.no_grad():
        x, y = task.test.batch(torch.arange(len(task.test)))
        scores = torch.cat([class_scores(network(part)) for part in x.split(77, dim=1)])
    assert outcome.accuracy["last epoch"] == pytest.approx(float((scores.argmax(-1) == y).double().mean()), abs=1e-12)


@pytest.mark.trains
def test_sigma_follows_the_paper() -> None:
    """Exponential over the first quarter of the epochs, from 12 + 0.27 to 0.23 + 0.27, then constant."""
    seen: list[dict] = []
    config = configure("shd", backend="spikingjelly", hidden=(8,), epochs=8, batch_size=256)
    train(config, load_task(configure("quick")), accelerator="cpu", on_epoch=seen.append)
    middle = 0.27 + 12 * (0.23 / 12) ** 0.5
    assert [entry["sigma"] for entry in seen[:4]] == pytest.approx([12.27, middle, 0.5, 0.5], abs=1e-4)


def test_rates_follow_the_paper() -> None:
    """Adam with OneCycle per epoch for weights, Adam with cosine for delays; decay on weights alone."""
    config = configure("shd", backend="spikingjelly")
    task = load_task(configure("quick"))
    module = _Training(build_network(config, task), config, Outcome(), [], None, every_epoch=False)
    (weights, delays), (one_cycle, cosine) = module.configure_optimizers()
    assert {type(weights), type(delays)} == {torch.optim.Adam}
    decay = {group["name"]: group["weight_decay"] for group in (*weights.param_groups, *delays.param_groups)}
    assert decay == {"weights": 1e-5, "others": 0.0, "delays": 0.0}
    rates, betas, delay_rates = [], [], []
    for _ in range(config.epochs):
        rates.append(weights.param_groups[0]["lr"])
        betas.append(weights.param_groups[0]["betas"][0])
        delay_rates.append(delays.param_groups[0]["lr"])
        weights.step(), delays.step()
        one_cycle.step() if len(rates) < config.epochs else None
        cosine.step()
    assert (rates[0], max(rates), rates[-1]) == pytest.approx((2e-4, 5e-3, 2e-8), rel=1e-3)
    assert (betas[0], min(betas), betas[-1]) == pytest.approx((0.95, 0.85, 0.95), rel=1e-3)
    assert delay_rates[0] == 0.1
    assert delays.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


@pytest.mark.trains
def test_learned_delays_find_the_planted_ones() -> None:
    """With the readout alone, the delays from channels to classes must become the planted ones."""
    task = TimingTask(jitter=0.3, distractors=0, classes=4, channels=12, steps=30)
    frames = task.sample(512, seed=1)
    torch.manual_seed(0)
    network = DelayNetwork((12, 4), toolkit("spikingjelly"), max_delay=12, dropout=0.0)
    synapse = network.layers[0].weights
    with torch.no_grad():
        synapse.weight.fill_(0.1)
    untrained = planted_correlation([synapse.delays.detach()], [synapse.weight.detach()], task.planted_delays())
    weights = torch.optim.Adam([synapse.weight], lr=5e-3)
    delays = torch.optim.Adam([synapse.delays], lr=0.5)
    epochs = 20
    for epoch in range(epochs):
        synapse.sigma.fill_(0.27 + 6 * (0.23 / 6) ** (epoch / (epochs - 1)))
        for indices in torch.randperm(512).split(64):
            x, y = frames.batch(indices)
            loss = torch.nn.functional.cross_entropy(class_scores(network(x)), y)
            weights.zero_grad(), delays.zero_grad()
            loss.backward()
            weights.step(), delays.step()
    trained = planted_correlation([synapse.delays.detach()], [synapse.weight.detach()], task.planted_delays())
    assert abs(untrained) < 0.3
    assert trained > 0.6


def test_planted_correlation_of_a_perfect_network() -> None:
    planted = TimingTask(classes=3, channels=8).planted_delays()
    direct = planted.float().unsqueeze(-1) + 2
    assert planted_correlation([direct], [torch.ones(3, 8, 1)], planted) == pytest.approx(1.0)
    hidden = [planted.float().unsqueeze(-1), torch.zeros(3, 3, 1)]
    assert planted_correlation(hidden, [torch.ones(3, 8, 1), torch.eye(3).unsqueeze(-1)], planted) == pytest.approx(1.0)
    assert planted_correlation([direct] * 3, [direct] * 3, planted) is None


def test_timing_task_carries_nothing_in_rates() -> None:
    task = TimingTask(distractors=2)
    frames = task.sample(200, seed=5)
    assert torch.equal(frames.counts.sum(0), torch.full((200, 20), 3, dtype=torch.int64))
    assert torch.equal(frames.labels.bincount(), torch.full((10,), 20))
    offsets = task.offsets()
    assert torch.equal(offsets.sort(1).values, torch.arange(20).expand(10, 20))
    assert torch.equal(offsets + task.planted_delays(), torch.full((10, 20), 19))


def test_timing_task_spikes_where_its_pattern_says() -> None:
    task = TimingTask(jitter=0.0, distractors=0)
    frames = task.sample(50, seed=1)
    times = frames.counts.argmax(0)  # (N, C)
    relative = times - times.min(1, keepdim=True).values
    assert torch.equal(relative, task.offsets()[frames.labels])
    assert not torch.equal(task.sample(50, seed=2).counts, frames.counts)


@pytest.mark.parametrize("changes", [{"classes": 1}, {"channels": 1}, {"steps": 10}, {"jitter": -1.0}])
def test_impossible_timing_task(changes: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(changes))):
        TimingTask(**changes)  # type: ignore[arg-type]


@pytest.mark.trains
def test_folder_in_the_layout_of_shd(tmp_path: Path) -> None:
    write = pytest.importorskip("h5py").File
    for split, size in (("train", 40), ("test", 12)):
        with write(tmp_path / f"mini_{split}.h5", "w") as file:
            import h5py
            import numpy as np

            rng = np.random.default_rng(len(split))
            times = [np.sort(rng.uniform(0, 0.3, 50)).astype(np.float16) for _ in range(size)]
            units = [rng.integers(0, 700, 50).astype(np.uint16) for _ in range(size)]
            for name, values, kind in (("times", times, np.float16), ("units", units, np.uint16)):
                data = file.create_dataset(f"spikes/{name}", (size,), dtype=h5py.vlen_dtype(kind))
                for n, value in enumerate(values):
                    data[n] = value
            file["labels"] = np.arange(size, dtype=np.uint16) % 2
            file["extra/speaker"] = np.arange(size, dtype=np.uint16) // 2 % 4
            file["extra/keys"] = np.array([b"zero", b"one"])
    config = configure("shd", dataset=str(tmp_path), backend="spikingjelly", hidden=(4,), epochs=1, batch_size=16)
    task = load_task(config)
    assert task.channels == 140
    assert task.train.steps == task.test.steps == task.valid.steps
    assert len(task.train) + len(task.valid) == 40
    assert "all of speakers" in task.split
    (record,) = compare([config], tmp_path / "runs", means=Means("cpu"))
    assert record["data"]["test"] == 12
    stratified = load_task(dataclasses.replace(config, validation="stratified"))
    assert "drawn by class" in stratified.split
    with pytest.raises(DataError, match=r"expected a file \*_valid.h5 for the official protocol, got none"):
        load_task(dataclasses.replace(config, protocol="official"))
    (paper,) = compare([dataclasses.replace(config, protocol="paper")], tmp_path / "paper", means=Means("cpu"))
    assert (paper["data"]["train"], paper["data"]["valid"], paper["data"]["test"]) == (40, 12, 12)
    assert paper["accuracy"].keys() == {"last epoch", "best on test"}
    assert paper["accuracy"]["best on test"] == max(entry["valid_accuracy"] for entry in paper["epochs"])
    shown = Console(width=120)
    with shown.capture() as text:
        shown.print(table([paper]))
    shown_text = " ".join(text.get().split())
    assert "test %" in shown_text
    assert "the test set chooses the epoch" in shown_text
    (tmp_path / "mini_valid.h5").write_bytes((tmp_path / "mini_test.h5").read_bytes())
    official = load_task(dataclasses.replace(config, protocol="official"))
    assert (len(official.train), len(official.valid)) == (40, 12)
    assert official.split == "the validation file of the data"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"delays": "some"}, "delays"),
        ({"binning": "fine"}, "binning"),
        ({"protocol": "best"}, "protocol"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"colour": 1}, "colour"),
        ({"seed": -1}, "seed"),
        ({"dataset": ""}, "dataset"),
    ],
)
def test_bad_configuration(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        configure("quick", **changes)


def test_the_synthetic_task_has_one_protocol() -> None:
    with pytest.raises(ArgumentError, match="protocol: expected 'heldout'"):
        load_task(configure("quick", protocol="paper"))


def test_intervals_over_seeds() -> None:
    assert student([0.5, 0.7]) == pytest.approx(12.706 * 0.1)  # half a difference of 0.2, times t
    assert student([0.5, 0.6, 0.7]) == pytest.approx(4.303 * 0.1 / 3**0.5)


def test_bad_names() -> None:
    with pytest.raises(ArgumentError, match="preset"):
        configure("mnist")
    with pytest.raises(UnknownBackendError, match="Did you mean 'snntorch'"):
        configurations("quick", backends=["snntroch"])
    with pytest.raises(DataError, match="nowhere"):
        load_task(configure("shd", dataset="nowhere"))


def test_several_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="devices: expected 1"):
        compare([configure("quick", backend="norse")], tmp_path, means=Means("cpu", devices=2), launcher="local")
    assert not list(tmp_path.iterdir())


def test_out_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="out: expected a folder that can be written to"):
        compare([configure("quick", backend="norse")], tmp_path / "file")


def test_unknown_accelerator(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"accelerator: expected .* got 'abacus'"):
        compare([configure("quick", backend="norse")], tmp_path, means=Means("abacus"))


def test_presets_are_complete_configurations() -> None:
    assert {configure(name).preset for name in PRESETS} == {"quick", "planted", "shd", "ssc"}


def test_wilson_interval() -> None:
    low, high = wilson(0.95, 2264)
    assert (low, high) == pytest.approx((0.9402, 0.9583), abs=2e-4)  # +-0.9 points, as for SHD
    assert wilson(1.0, 100)[0] > 0.95


@pytest.mark.trains
def test_table_and_plots(comparison: tuple[list[RunConfig], Path, list[dict]], tmp_path: Path) -> None:
    from rich.console import Console

    configs, out, records = comparison
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(records))
    text = console.export_text()
    for word in ("spikingjelly", "none", "fixed", "learned", "epoch %", "valid. %", "planted r", "496"):
        assert word in text
    assert f"{100 * records[2]['accuracy']['last epoch']:.1f}" in text
    plot_learning_curves(records, tmp_path / "curves.png")
    plot_delays(records[2], out / configs[2].cell, tmp_path / "delays.png")
    for name in ("curves.png", "delays.png"):
        content = (tmp_path / name).read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(content) > 10_000


# ------------------------------------------------------------------------------------------------ interrupted runs


def same_numbers(found: dict, expected: dict) -> None:
    """All that a run measures but for time and memory, to the last bit."""
    for record in (found, expected):
        for entry in record["epochs"]:
            entry.pop("seconds", None), entry.pop("waited", None)
    for key in ("epochs", "accuracy", "best_epoch", "config", "data", "parameters", "planted_correlation"):
        assert found.get(key) == expected.get(key), key


def same_model(found: Path, expected: Path) -> None:
    ours, theirs = (torch.load(folder / "model.pt", weights_only=True) for folder in (found, expected))
    assert ours["state"].keys() == theirs["state"].keys()
    assert all(torch.equal(ours["state"][name], theirs["state"][name]) for name in ours["state"])
    for when in ("before", "after"):
        assert all(map(torch.equal, ours["delays"][when], theirs["delays"][when]))


KILLED = """
import json, os, signal, sys
import torch
from pathlib import Path
from delayplug.bench.comparison.compare import compare
from delayplug.bench.comparison.run import Means
from delayplug.bench.config import configure
from delayplug.bench.training.trainer import _Training

torch.set_num_threads(1)
config = configure("quick", backend="snntorch", epochs=4, hidden=(8,), max_delay=6)
out = Path(sys.argv[1])
plain = _Training.training_step

def run_until(epoch, step):
    def until(self, batch, index):
        if (self.current_epoch, index) == (epoch, step):
            os.kill(os.getpid(), signal.SIGKILL)
        plain(self, batch, index)

    _Training.training_step = until
    compare([config], out, means=Means("cpu"))

# A process for each run: what they import is imported once, which takes longer than the runs.
for epoch, step in json.loads(sys.argv[2]):
    process = os.fork()
    if not process:
        try:
            run_until(epoch, step)
        finally:
            os._exit(1)
    status = os.waitpid(process, 0)[1]
    signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    print(json.dumps([signalled, *((out / config.cell / name).exists() for name in ("checkpoint.pt", "record.json"))]))
"""


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a signal that cannot be caught is something of POSIX")
def test_killed_runs_end_with_the_same_numbers(tmp_path: Path) -> None:
    """Killed in the first epoch, at the start of one and in the middle of one; each time it goes on."""
    config = configure("quick", backend="snntorch", epochs=4, hidden=(8,), max_delay=6)
    (expected,) = compare([config], tmp_path / "whole", means=Means("cpu"))
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(killed), json.dumps([(0, 5), (1, 0), (2, 7)])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    ends = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    # By which signal it ended; whether there is a checkpoint then, and a record.
    assert ends == [[signal.SIGKILL, there, False] for there in (False, True, True)], done.stderr
    seen: list[int] = []

    @contextlib.contextmanager
    def watch(*_: object) -> Iterator[Callable[[dict], None]]:
        yield lambda entry: seen.append(entry["epoch"])

    (found,) = compare([config], killed, means=Means("cpu"), watch=watch)
    assert seen == [1, 2, 3, 4]
    same_numbers(found, expected)
    same_model(killed / config.cell, tmp_path / "whole" / config.cell)
    assert not (killed / config.cell / "checkpoint.pt").exists()


class LateError(Exception):
    """While the run is being tested."""


def interrupted(config: RunConfig, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train all epochs, and no more."""
    with monkeypatch.context() as patch:
        patch.setattr(_Training, "on_test_epoch_start", lambda _: (_ for _ in ()).throw(LateError))
        with pytest.raises(LateError):
            compare([config], out, means=Means("cpu"))


@pytest.mark.trains
def test_killed_while_testing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last epoch nothing is trained again."""
    config = configure("quick", backend="norse", **TINY)
    (expected,) = compare([config], tmp_path / "whole", means=Means("cpu"))
    interrupted(config, tmp_path / "late", monkeypatch)
    monkeypatch.setattr(_Training, "training_step", lambda *_: pytest.fail("trained again"))
    (found,) = compare([config], tmp_path / "late", means=Means("cpu"))
    same_numbers(found, expected)


@pytest.mark.trains
def test_a_checkpoint_of_another_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure("quick", backend="norse", **TINY)
    interrupted(config, tmp_path, monkeypatch)
    with pytest.raises(RunError, match=r"another configuration \(lr: 0.005 there, 0.1 here\). Choose another --out"):
        compare([dataclasses.replace(config, lr=0.1)], tmp_path, means=Means("cpu"))
    checkpoint = tmp_path / config.cell / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(
        RunError, match=r"expected a checkpoint of a run, got a damaged file .* Delete it to begin anew"
    ):
        compare([config], tmp_path, means=Means("cpu"))


def test_epochs_have_orders_of_their_own() -> None:
    frames = load_task(configure("quick")).train.select(range(50))

    def order(seed: int, epoch: int) -> list[int]:
        batches = training_loader(frames, 16, seed).batch_sampler
        batches.set_epoch(epoch)
        found = list(batches)
        assert [(len(batch) - 1, batch[-1]) for batch in found] == [(16, 16)] * 3 + [(2, 2)]
        return [index for batch in found for index in batch[:-1]]

    assert order(1, 0) == order(1, 0) != order(1, 1)
    assert sorted(order(1, 1)) == list(range(50))
    assert order(2, 0) != order(1, 0)


# ------------------------------------------------------------------------------------------------------ the report


@pytest.mark.trains
def test_report(comparison: tuple[list[RunConfig], Path, list[dict]], tmp_path: Path) -> None:
    _, out, records = comparison
    found = read_records(out)
    assert {record["config"]["delays"] for record in found} == {"none", "fixed", "learned"}
    write_csv(found, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open() as file:
        rows = {row["delays"]: row for row in csv.DictReader(file)}
    for record in records:
        row = rows[record["config"]["delays"]]
        assert float(row["last_epoch"]) == record["accuracy"]["last epoch"]
        assert int(row["parameters"]) == record["parameters"]
    write_page(found, out, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == 6  # accuracies, curves, three rasters, one histogram of delays
    assert "http" not in page  # it needs nothing from elsewhere
    assert "The test set was read once" in page
    assert rows["learned"]["command"] in page


def test_the_command_makes_the_run_again() -> None:
    config = configure("shd", dataset="some data/shd", backend="norse", delays="fixed", seed=3, epochs=5, compile=True)
    words = shlex.split(command(config.to_json()))
    assert words[:3] == ["delayplug", "bench", "run"]
    for option, value in {"--dataset": "some data/shd", "--epochs": "5", "--seeds": "3", "--delays": "fixed"}.items():
        assert words[words.index(option) + 1] == value
    assert "--compile" in words
    assert "--batch-size" not in words  # the preset's
    several = configure("quick", hidden=(8, 4), fan_in=3, taps=2, seed=1)
    assert "--hidden 8 4 --taps 2 --fan-in 3" in command(several.to_json())
    # No option says this, but the file in the run's folder does.
    other = configure("quick", lr=0.1, hidden=(8,), seed=5)
    assert command(other.to_json()) == f"delayplug bench run --config {other.cell}/config.toml"


@pytest.mark.parametrize(
    "config",
    [
        configure("quick"),
        configure("shd", dataset='da "ta', backend="norse", hidden=(3, 4), fan_in=2, seed=7, weight_decay=1e-7),
        configure("ssc", compile=True, window_ms=500.0, time_mask=3, cutmix=0.5, protocol="official"),
    ],
)
def test_the_file_in_a_runs_folder_makes_it_again(config: RunConfig, tmp_path: Path) -> None:
    write_config(tmp_path, config)
    values = read_toml(tmp_path / "config.toml")
    assert configurations(values.pop("preset"), **values) == [config]


@pytest.mark.trains
def test_windows_and_masks_change_what_is_trained_on(tmp_path: Path) -> None:
    whole = load_task(configure("quick"))
    config = configure("quick", backend="spikingjelly", **TINY)
    plain = train(config, whole, accelerator="cpu")
    for change in ({"time_mask": 20}, {"cutmix": 1.0}):
        changed = train(dataclasses.replace(config, **change), whole, accelerator="cpu")
        assert changed.epochs[0]["train_loss"] != plain.epochs[0]["train_loss"]
        again = train(dataclasses.replace(config, **change), whole, accelerator="cpu")
        assert changed.epochs[-1]["train_loss"] == again.epochs[-1]["train_loss"]


@pytest.mark.trains
def test_what_is_written_on_the_way(comparison: tuple[list[RunConfig], Path, list[dict]]) -> None:
    """The share of the time that went by waiting for data, and a file to make each run again."""
    configs, out, records = comparison
    for config, record in zip(configs, records, strict=True):
        assert 0 < record["waiting"] < 1
        assert all(0 <= entry["waited"] <= entry["seconds"] for entry in record["epochs"])
        assert read_toml(out / config.cell / "config.toml")["seeds"] == [config.seed]


@pytest.mark.trains
def test_picture_of_accuracies(comparison: tuple[list[RunConfig], Path, list[dict]]) -> None:
    _, _, records = comparison
    figure = accuracy_figure(records)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["none", "fixed", "learned"]
    marks = [100 * record["accuracy"]["last epoch"] for record in records]
    drawn = [float(marks.get_offsets()[0][0]) for marks in axes.collections]
    assert drawn == pytest.approx(marks)


@pytest.mark.trains
def test_planted_delays_are_found() -> None:
    """Without hidden neurons the delays themselves must align the patterns."""
    config = configure("planted", backend="spikingjelly", epochs=6)
    task = load_task(config)
    outcome = train(config, task, accelerator="cpu")
    found = make_record(config, task, outcome, "cpu")["planted_correlation"]
    assert abs(found["before training"]) < 0.1
    assert found["after training"] > 0.2


def test_report_on_what_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected finished runs, got none"):
        read_records(tmp_path)
    for name, epochs in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        config = configure("quick", epochs=epochs).to_json()
        (tmp_path / name / "record.json").write_text(json.dumps({"format": FORMAT, "config": config}))
    with pytest.raises(RunError, match="differ in backend, variant and seed only"):
        read_records(tmp_path)


def test_settings_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('epochs = 3\nhidden = [8, 8]\nbackends = "norse"\nseeds = [1, 2]\n')
    values = read_toml(path)
    assert values == {"epochs": 3, "hidden": (8, 8), "backends": ["norse"], "seeds": [1, 2]}
    assert [config.seed for config in configurations("quick", delays=["none"], **values)] == [1, 2]
    for text in ("epochs = ", "colour = 1"):
        path.write_text(text)
        with pytest.raises(ArgumentError, match="config: expected"):
            read_toml(path)
    with pytest.raises(ArgumentError, match="config: expected a TOML file"):
        read_toml(tmp_path / "nothing.toml")
