"""A sweep: settings are drawn and judged on held-out recordings, and the best one is tested."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ...errors import ArgumentError, RunError
from ...toolkits import plugins
from ..comparison.compare import make_runs
from ..comparison.launch import Failed, Say, Watch
from ..comparison.records import RECORD, Record
from ..config import RunConfig
from ..resources import Launcher, Resources
from ..serialise import to_toml
from ..task import LAST
from ..whole_files import locked, make_folder, write_whole
from .judging import Judge, Repetition, judge_of, survivors
from .sampling import Tried, check_sampler, draw
from .sweep_config import SweepConfig
from .trials import FORMAT, SWEEP, RunResult, Sweep, Trial, accuracy_of, read_sweep_record, runs_of, write_sweep_record

TRIALS, FINAL, CHOSEN = "trials", "final", "chosen.toml"
_PACKAGES = ("delayplug", "torch", "lightning", "numpy", "optuna")
_FAILURES = 5  # in a row; then the cause is probably not the settings


@dataclass(frozen=True)
class Execution:
    """How runs are executed, which does not change their results.

    Attributes:
        watch, say, resources, launcher, workers: as in `make_runs`.
        plan: called once with the number of runs that the sweep still has to make.
    """

    watch: Watch = lambda config, entry: None
    say: Say = lambda line: None
    plan: Callable[[int], object] = lambda runs: None
    resources: Resources | None = None
    launcher: Launcher = "here"
    workers: int = 2


def sweep(config: SweepConfig, out: Path, *, command: str = "", execution: Execution | None = None) -> Sweep:
    """Search, choose and test. A sweep that was stopped continues, and ends with the same results.

    1. Settings are drawn, after the baseline (the preset's values), and each is judged by the runs of the first rung.
    2. The best settings of each rung, and the baseline, are judged by the additional runs of the next rung.
    3. Among the settings with all runs, the one with the highest mean accuracy is chosen.
    4. It is trained with the final seeds and tested. The test set is read here for the first time.

    Args:
        config: the content of CONFIG.toml.
        out: folder of the sweep, for sweep.json, chosen.toml, and all runs.
        command: the command line that repeats the sweep, for the record.
        execution: how runs are executed.

    Raises:
        ArgumentError: an unknown setting, or a fold or device that does not exist.
        BackendError: a backend cannot be used.
        DataError: the data cannot be used.
        ExtraMissingError: Optuna is not installed.
        RunError: the folder contains another sweep; five settings in a row failed; or none could be judged.
    """
    backends = [config.fixed["backend"]] if "backend" in config.fixed else config.space["backend"].values()
    for name in backends:
        plugins.toolkit(str(name))
    check_sampler(config.options.sampler, config.space)
    judge = judge_of(config)
    execution = execution or Execution()
    make_folder(out)
    with locked(out):
        before = read_sweep_record(out)
        if before is not None:
            config.check_same(before["config"], out / SWEEP)
        execution.plan(judge.planned(config.options) - (0 if before is None else runs_of(before)))
        search = _Search(config, out, judge, execution, command, before)
        search.try_settings()
        search.climb()
        search.choose()
        search.test()
    return search.record


class _Search:
    """A running sweep. Its record lists the settings that were drawn; results are read from the records of the runs."""

    def __init__(
        self, config: SweepConfig, out: Path, judge: Judge, execution: Execution, command: str, before: Sweep | None
    ) -> None:
        self.config, self.out, self.judge, self.execution, self.before = config, out, judge, execution, before
        versions = {"python": platform.python_version()}
        self.record: Sweep = {
            "format": FORMAT,
            "command": command,
            "config": config.to_json(),
            "versions": versions | {name: v for name in _PACKAGES if (v := plugins.version(name))},
            "judged_by": judge.text,
            "rungs": list(judge.rungs),
            "trials": [],
            "chosen": None if before is None else before["chosen"],
            "final": [] if before is None else before["final"],
            "finished": "" if before is None else before["finished"],
        }

    @property
    def trials(self) -> list[Trial]:
        return self.record["trials"]

    def try_settings(self) -> None:
        """The first rung: draw settings and judge them; later draws use the accuracies of earlier ones."""
        if self.before is not None:
            for trial in self.before["trials"]:
                self._add(trial["values"], trial["baseline"])
        else:
            if self.config.options.baseline:
                self._add(self.config.baseline(), True)
            self._draw()
        while waiting := [trial for trial in self.trials if trial["state"] == "open" and not trial["runs"]]:
            self._save()
            self._judge(waiting, self.judge.rungs[0])
            self._draw()

    def climb(self) -> None:
        """The other rungs: the best settings get more runs."""
        below = self.judge.rungs[0]
        for runs in self.judge.rungs[1:]:
            drawn = [trial for trial in self._ranked(below) if not trial["baseline"]]
            number = survivors(len(drawn), self.config.options.halving)
            for rank, trial in enumerate(drawn[number:], start=number + 1):
                trial["state"] = "stopped"
                of = f"{below} run{'s' if below > 1 else ''}"
                trial["reason"] = f"number {rank} of {len(drawn)} after {of}, of which {number} go on"
            self._judge([trial for trial in self.trials if trial["state"] == "open"], runs)
            self._save()
            below = runs

    def choose(self) -> None:
        """Choose the setting with the highest mean accuracy among those with all runs, and write chosen.toml."""
        runs = self.judge.rungs[-1]
        ranked = self._ranked(runs)
        for trial in ranked:
            trial["state"] = "judged"
        if not ranked:
            reasons = "; ".join(dict.fromkeys(trial["reason"] for trial in self.trials))
            self._save()
            raise RunError(f"{self.out}: none of {len(self.trials)} settings could be judged: {reasons}")
        best = ranked[0]
        accuracy, all_runs = accuracy_of(best) or 0.0, f"all {runs} runs" if runs > 1 else "their run"
        of = f"the {len(ranked)} settings, of {len(self.trials)} tried, that have {all_runs}"
        if self.before is not None and self.before["final"] and self.before["chosen"] is not None:
            earlier = self.before["chosen"]["number"]
            if earlier != best["number"]:
                raise RunError(
                    f"{self.out}: the test set was read for setting {earlier}, and the records of the runs now choose "
                    f"setting {best['number']}. Search again in another --out"
                )
        reason = f"the highest mean accuracy, {100 * accuracy:.2f} %, of {of}"
        self.record["chosen"] = {"number": best["number"], "reason": reason}
        seed = min(self.config.options.final_seeds, default=0)
        write_whole(self.out / CHOSEN, to_toml(self.judge.final_run(self.config, best["values"], seed)))
        self._save()

    def test(self) -> None:
        """Make the runs of the chosen setting on the test set."""
        assert self.record["chosen"] is not None
        values = self.trials[self.record["chosen"]["number"]]["values"]
        seeds = self.config.options.final_seeds
        configs = {self.judge.final_run(self.config, values, seed): seed for seed in seeds}
        records = self._make(dict.fromkeys(configs, self.out / FINAL))
        results = (_result(Repetition(None, seed), config, FINAL, records[config]) for config, seed in configs.items())
        self.record["final"] = list(results)
        self.record["finished"] = self.record["finished"] or datetime.now(UTC).isoformat(timespec="seconds")
        self._save()

    def _draw(self) -> None:
        """Draw the settings to try next, if the budget is not used up, and add them to the record."""
        options = self.config.options
        number = min(options.at_once, options.budget - sum(not trial["baseline"] for trial in self.trials))
        tried = [Tried(trial["values"], accuracy_of(trial, self.judge.rungs[0])) for trial in self.trials]
        if number > 0:
            for values in draw(self.config.space, tried, number, options.sampler, options.sampler_seed):
                self._add(values, False)

    def _add(self, values: dict[str, object], baseline: bool) -> None:
        new: Trial = {
            "number": len(self.trials),
            "values": {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()},  # JSON has lists
            "baseline": baseline,
            "state": "open",
            "reason": "",
            "runs": [],
        }
        self.trials.append(new)

    def _judge(self, trials: Sequence[Trial], runs: int) -> None:
        """Make the runs that settings lack, up to `runs` each; exclude settings that cannot be trained."""
        wanted: dict[RunConfig, tuple[Trial, Repetition]] = {}
        for trial in trials:
            repetitions = self.judge.repetitions[len(trial["runs"]) : runs]
            try:
                wanted |= {
                    self.judge.run(self.config, trial["values"], repetition): (trial, repetition)
                    for repetition in repetitions
                }
            except ArgumentError as error:
                trial["state"], trial["reason"] = "refused", str(error)

        def failed(config: RunConfig, error: BaseException) -> None:
            trial, repetition = wanted[config]
            trial["state"], trial["reason"] = "failed", f"{repetition.name}: {type(error).__name__}: {error}"

        folders = {config: self.out / _folder(trial) for config, (trial, _) in wanted.items()}
        records = self._make(folders, failed)
        for config, (trial, repetition) in wanted.items():
            if trial["state"] == "open":
                trial["runs"].append(_result(repetition, config, _folder(trial), records[config]))
        self._stop_where_all_fail()

    def _make(self, folders: Mapping[RunConfig, Path], failed: Failed | None = None) -> dict[RunConfig, Record]:
        execution = self.execution
        return make_runs(
            folders,
            watch=execution.watch,
            say=execution.say,
            failed=failed,
            resources=execution.resources,
            launcher=execution.launcher,
            workers=execution.workers,
        )

    def _stop_where_all_fail(self) -> None:
        """Raise RunError if the last _FAILURES settings failed: then the cause is probably not the settings."""
        tried = [trial for trial in self.trials if trial["state"] == "failed" or trial["runs"]]
        last = tried[-_FAILURES:]
        if len(last) == _FAILURES and all(trial["state"] == "failed" for trial in last):
            self._save()
            advice = "Remove the cause and run the same command again: the sweep tries these settings again"
            raise RunError(f"{self.out}: {_FAILURES} settings in a row failed. {last[-1]['reason']}. {advice}")

    def _ranked(self, runs: int) -> list[Trial]:
        """The settings that are not excluded, sorted by their mean accuracy over the first `runs` runs; best first."""
        known = [(accuracy_of(t, runs), t) for t in self.trials if t["state"] == "open"]
        ranked = sorted(((a, -t["number"], t) for a, t in known if a is not None), key=lambda each: each[:2])
        return [trial for _, _, trial in reversed(ranked)]

    def _save(self) -> None:
        write_sweep_record(self.out, self.record)


def _folder(trial: Trial) -> str:
    return f"{TRIALS}/{trial['number']:03d}"


def _result(repetition: Repetition, config: RunConfig, folder: str, record: Record) -> RunResult:
    return {
        "fold": repetition.fold,
        "seed": repetition.seed,
        "accuracy": record["accuracy"][LAST],
        "recordings": record["data"]["test"],
        "folder": f"{folder}/{config.name}",
    }


def left_to_do(out: Path) -> str:
    """How to continue a sweep that was stopped, in words."""
    record = read_sweep_record(out)
    if record is None:
        return "run again to begin"
    if record["chosen"] is not None:
        return f"run again to test setting {record['chosen']['number']}, which was chosen"
    finished = len(list(out.glob(f"{TRIALS}/*/*/{RECORD}")))
    return f"run again to go on; finished runs: {finished}"
