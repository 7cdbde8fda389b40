"""A comparison in numbers: means, intervals, and a table for the terminal."""

import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.table import Table

from ..._tables import make_table, number, text
from ..comparison.records import Record
from ..config import SYNTHETIC
from ..task import LAST
from ..variants import VARIANTS, variant_name

# 97.5 % quantiles of Student's distribution with 1, 2, ... degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120)


def table(records: Sequence[Record]) -> Table:
    """One row per backend and variant, means over seeds. Accuracies are of the test set.

    The interval is the sampling error of one test set (95 %, Wilson) at the mean accuracy. Behind +- is that of the
    mean over seeds (95 %, Student), if there are several.
    """
    first, config, data = records[0], records[0]["config"], records[0]["data"]
    seeds = len({record["config"]["seed"] for record in records})
    frames = frames_of(config)
    waiting = mean(record["waiting"] for record in records)
    chosen = rule_of(first).replace("on ", "on\n").replace("validation", "valid.")
    headers = ["last\nepoch %", "95 %\ninterval", f"{chosen} %", "para-\nmeters", "s per\nepoch", "peak\nMB"]
    planted = any("planted_correlation" in record for record in records)
    result = make_table(
        *(text(header, wrap="never") for header in ("backend", "delays")),
        *(number(header) for header in ([*headers, "planted r\n(untrained)"] if planted else headers)),
        gap=1,
        title=f"{Path(config['dataset']).name}: {len(data['classes'])} classes, preset {config['preset']}, "
        f"{config['epochs']} epochs, {seeds} seed{'s' if seeds > 1 else ''}",
        caption=f"Test accuracy on {data['test']} recordings; validation: {split_of(records)}."
        f"{f' Frames: {frames}.' if frames else ''} Training waited for its data {100 * waiting:.1f} % of the time. "
        f"{computed_by(records)}.",
    )
    previous = None
    for (backend, name), group in grouped(records).items():
        if previous not in (None, backend):
            result.add_section()
        row = summary(group)
        correlation = f"{row['planted']} ({row['untrained']})" if row["planted"] else ""
        result.add_row(
            backend if backend != previous else "",
            name,
            str(row["last"]).replace(" ", "\n"),
            f"{row['low']:.0f} - {row['high']:.0f}",
            str(row["best"]).replace(" ", "\n"),
            *(str(row[column]) for column in ("parameters", "seconds", "memory")),
            *([correlation] if planted else []),
        )
        previous = backend
    return result


def summary(group: Sequence[Record]) -> dict[str, str | float]:
    """What one backend and variant did: means over seeds, and the largest peak of memory, as text.

    `mean` is the accuracy after the last epoch, and `low` and `high` the ends of its interval, as numbers in percent.
    """
    first, planted = group[0], planted_means(group)
    last = [record["accuracy"]["last epoch"] for record in group]
    low, high = wilson(mean(last), first["data"]["test"])
    layers = zip(*(record["spikes_per_neuron"] for record in group), strict=True)
    return {
        "backend": first["config"]["backend"],
        "delays": variant_of(first),
        "kind": first["config"]["delays"],
        "mean": 100 * mean(last),
        "low": 100 * low,
        "high": 100 * high,
        "last": over_seeds(last),
        "best": over_seeds([record["accuracy"][rule_of(first)] for record in group]),
        "parameters": f"{first['parameters']:,}",
        "spikes": " / ".join(f"{mean(layer):.1f}" for layer in layers),
        "planted": "" if planted is None else f"{planted[1]:.2f}",
        "untrained": "" if planted is None else f"{planted[0]:.2f}",
        "seconds": f"{mean(record['seconds_per_epoch'] for record in group):.2f}",
        "waiting": f"{100 * mean(record['waiting'] for record in group):.1f}",
        "memory": f"{max(record['peak_memory_mb'] for record in group):,.0f}",
    }


def student(values: Sequence[float]) -> float:
    """Half the interval in which the mean of all seeds lies with 95 %, from those of two or more (Student, 1908)."""
    return _T[min(len(values) - 1, len(_T)) - 1] * stdev(values) / math.sqrt(len(values))


def over_seeds(values: Sequence[float]) -> str:
    """The mean in percent, and half its interval where there are several."""
    return f"{100 * mean(values):.1f}" + (f" +-{100 * student(values):.1f}" if len(values) > 1 else "")


def wilson(accuracy: float, samples: int, z: float = 1.96) -> tuple[float, float]:
    """The interval in which the true accuracy lies with 95 %, from that of a sample (Wilson, 1927)."""
    centre = accuracy + z * z / (2 * samples)
    width = z * math.sqrt(accuracy * (1 - accuracy) / samples + z * z / (4 * samples * samples))
    scale = 1 + z * z / samples
    return (centre - width) / scale, (centre + width) / scale


def grouped(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    """The runs of each backend and variant, which differ by their seeds."""

    def order(record: Record) -> tuple[str, int, int]:
        config = record["config"]
        return config["backend"], config["fan_in"], VARIANTS.index(config["delays"])

    groups = itertools.groupby(sorted(records, key=order), lambda r: (r["config"]["backend"], variant_of(r)))
    return {name: list(group) for name, group in groups}


def split_of(records: Iterable[Record]) -> str:
    """How the data was split, in words; seeds may hold out other recordings."""
    return "; or ".join(sorted({record["data"]["split"] for record in records}))


def variant_of(record: Record) -> str:
    """The name of a run's variant, such as "learned" or "learned-sparse10"."""
    return variant_name(record["config"]["delays"], record["config"]["fan_in"])


def rule_of(record: Record) -> str:
    """The rule that chose the best epoch, such as "best on validation"; "last epoch" where nothing chose one."""
    return next((rule for rule in record["accuracy"] if rule != LAST), LAST)


def frames_of(config: dict[str, Any]) -> str:
    """How recordings became frames, in words; "" for the synthetic task, which has none."""
    if config["dataset"] == SYNTHETIC:
        return ""
    return f"{config['step_ms']:g} ms per step, binning {config['binning']}, {config['pool']} channels summed"


def computed_by(records: Sequence[Record]) -> str:
    """The devices of the runs, the precision of their products, and what computed their neurons, in words."""
    machines = [record["machine"] for record in records]
    devices = dict.fromkeys(str(machine.get("name") or machine.get("device", "a device")) for machine in machines)
    neurons = dict.fromkeys(
        neurons if ":" in neurons else f"{record['config']['backend']}: {neurons}"
        for record, machine in zip(records, machines, strict=True)
        if (neurons := str(machine.get("neurons", "")))
    )
    precision = records[0]["config"].get("precision", "highest")
    by = f"; neurons by {', '.join(neurons)}" if neurons else ""
    return f"Computed on {' and '.join(devices)}, float32 precision {precision}{by}"


def planted_means(group: Iterable[Record]) -> tuple[float, float] | None:
    """Mean correlation with the planted delays (before, after) training; None where it is not defined."""
    pairs = []
    for record in group:
        values = record.get("planted_correlation", {})
        before, after = values.get("before training"), values.get("after training")
        if before is not None and after is not None:
            pairs.append((before, after))
    return (mean(before for before, _ in pairs), mean(after for _, after in pairs)) if pairs else None
