"""The sweep: settings are drawn, judged on held-out speakers, and one of them is tested."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ...errors import ArgumentError, RunError
from ...toolkits import plugins
from ..comparison.compare import make_runs
from ..comparison.launch import Failed, Say, Watch
from ..comparison.records import RECORD, Record, make_folder
from ..config import RunConfig
from ..resources import Launcher, Resources
from ..serialise import to_toml
from ..task import LAST
from ..whole_files import locked, write_whole
from .judging import Judge, Part, judge_of, survivors
from .sampling import Tried, check_sampler, draw
from .sweep_config import SweepConfig
from .trials import FORMAT, SWEEP, PartResult, Sweep, Trial, accuracy_of, read_sweep_record, runs_of, write_sweep_record

TRIALS, FINAL, CHOSEN = "trials", "final", "chosen.toml"
_PACKAGES = ("delayplug", "torch", "lightning", "numpy", "optuna")
_FAILURES = 5  # in a row: then it is not the settings


@dataclass(frozen=True)
class Means:
    """How runs are made, which does not change what they are.

    Attributes:
        watch, say, resources, launcher, workers: as `make_runs` has them.
        plan: called with the number of runs that are left to make.
    """

    watch: Watch = lambda config, entry: None
    say: Say = lambda line: None
    plan: Callable[[int], object] = lambda runs: None
    resources: Resources | None = None
    launcher: Launcher = "here"
    workers: int = 2


def sweep(config: SweepConfig, out: Path, *, command: str = "", means: Means | None = None) -> Sweep:
    """Search, choose and test; or go on with a sweep that was stopped, which ends as if it had not been.

    1. Settings are drawn, the preset's own first, and each is judged by the runs of the first rung.
    2. The better ones of each rung are judged by those of the next one, and so is the baseline.
    3. Of those that have all runs the one with the highest mean accuracy is chosen.
    4. That one is trained with the final seeds, and the test set is read, for the first time.

    Args:
        config: the content of CONFIG.toml.
        out: folder of the sweep: sweep.json, chosen.toml, and all runs.
        command: that makes it again, for the record.
        means: how runs are made.

    Raises:
        ArgumentError: settings or folds that there are not, a device that does not exist here.
        BackendError: a backend cannot be used.
        DataError: the data cannot be used.
        ExtraMissingError: Optuna is not installed.
        RunError: the folder has another sweep; five settings in a row failed; or none could be judged.
    """
    backends = [config.fixed["backend"]] if "backend" in config.fixed else config.space["backend"].values()
    for name in backends:
        plugins.toolkit(str(name))
    check_sampler(config.options.sampler, config.space)
    judge = judge_of(config)
    means = means or Means()
    make_folder(out)
    with locked(out):
        before = read_sweep_record(out)
        if before is not None:
            config.check_same(before["config"], out / SWEEP)
        means.plan(judge.planned(config.options) - (0 if before is None else runs_of(before)))
        search = _Search(config, out, judge, means, command, before)
        search.try_settings()
        search.climb()
        search.choose()
        search.test()
    return search.record


class _Search:
    """A sweep under way. Its record says what was drawn; all else in it is read from the records of the runs."""

    def __init__(
        self, config: SweepConfig, out: Path, judge: Judge, means: Means, command: str, before: Sweep | None
    ) -> None:
        self.config, self.out, self.judge, self.means, self.before = config, out, judge, means, before
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
        """The first rung: draw settings, with what is known of those before them, and judge them."""
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
        """The other rungs: the better settings get more runs."""
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
        """The setting with the highest mean accuracy of all its runs."""
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
        """The runs of the chosen setting on the test set."""
        assert self.record["chosen"] is not None
        values = self.trials[self.record["chosen"]["number"]]["values"]
        seeds = self.config.options.final_seeds
        configs = {self.judge.final_run(self.config, values, seed): seed for seed in seeds}
        records = self._make(dict.fromkeys(configs, self.out / FINAL))
        results = (_result(Part(None, seed), config, FINAL, records[config]) for config, seed in configs.items())
        self.record["final"] = list(results)
        self.record["finished"] = self.record["finished"] or datetime.now(UTC).isoformat(timespec="seconds")
        self._save()

    def _draw(self) -> None:
        """Add the settings that are to be tried next, if there are any."""
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
        """Bring settings to so many runs. Those that cannot have them are out, with the reason."""
        wanted: dict[RunConfig, tuple[Trial, Part]] = {}
        for trial in trials:
            parts = self.judge.parts[len(trial["runs"]) : runs]
            try:
                wanted |= {self.judge.run(self.config, trial["values"], part): (trial, part) for part in parts}
            except ArgumentError as error:
                trial["state"], trial["reason"] = "refused", str(error)

        def failed(config: RunConfig, error: BaseException) -> None:
            trial, part = wanted[config]
            trial["state"], trial["reason"] = "failed", f"{part.name}: {type(error).__name__}: {error}"

        folders = {config: self.out / _folder(trial) for config, (trial, _) in wanted.items()}
        records = self._make(folders, failed)
        for config, (trial, part) in wanted.items():
            if trial["state"] == "open":
                trial["runs"].append(_result(part, config, _folder(trial), records[config]))
        self._stop_where_all_fail()

    def _make(self, folders: Mapping[RunConfig, Path], failed: Failed | None = None) -> dict[RunConfig, Record]:
        means = self.means
        return make_runs(
            folders,
            watch=means.watch,
            say=means.say,
            failed=failed,
            resources=means.resources,
            launcher=means.launcher,
            workers=means.workers,
        )

    def _stop_where_all_fail(self) -> None:
        """Raise RunError if so many settings in a row failed that it is not because of the settings."""
        tried = [trial for trial in self.trials if trial["state"] == "failed" or trial["runs"]]
        last = tried[-_FAILURES:]
        if len(last) == _FAILURES and all(trial["state"] == "failed" for trial in last):
            self._save()
            advice = "Started again, the sweep tries them again"
            raise RunError(f"{self.out}: {_FAILURES} settings in a row failed. {last[-1]['reason']}. {advice}")

    def _ranked(self, runs: int) -> list[Trial]:
        """The settings that are not out, the best one after so many runs first."""
        known = [(accuracy_of(t, runs), t) for t in self.trials if t["state"] == "open"]
        ranked = sorted(((a, -t["number"], t) for a, t in known if a is not None), key=lambda each: each[:2])
        return [trial for _, _, trial in reversed(ranked)]

    def _save(self) -> None:
        write_sweep_record(self.out, self.record)


def _folder(trial: Trial) -> str:
    return f"{TRIALS}/{trial['number']:03d}"


def _result(part: Part, config: RunConfig, folder: str, record: Record) -> PartResult:
    return {
        "fold": part.fold,
        "seed": part.seed,
        "accuracy": record["accuracy"][LAST],
        "recordings": record["data"]["test"],
        "folder": f"{folder}/{config.name}",
    }


def left_to_do(out: Path) -> str:
    """How to go on with a sweep that was stopped, in words."""
    record = read_sweep_record(out)
    if record is None:
        return "run again to begin"
    if record["chosen"] is not None:
        return f"run again to test setting {record['chosen']['number']}, which was chosen"
    finished = len(list(out.glob(f"{TRIALS}/*/*/{RECORD}")))
    return f"run again to go on; finished runs: {finished}"
