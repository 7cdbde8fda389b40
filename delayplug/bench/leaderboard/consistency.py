"""Whether the numbers of a record agree with each other and with its configuration.

Each check returns the first contradiction in words, or "". Two measurements of the same accuracy may differ by a few
recordings, since a CUDA graph and plain kernels may sum in another order.
"""

from collections.abc import Iterable

from ..comparison.records import Record
from ..config import RunConfig
from ..known_frames import KnownFrames
from ..report.methods import on_test_set
from ..task import LAST
from ..training.outcome import Epoch

_CLOSE = 1e-6  # largest relative distance to a whole number of recordings
_FEW, _SHARE = 3, 0.01  # number, or share, of recordings by which two measurements may differ, whichever is larger
_ROUNDING = 1e-3  # largest relative difference of two means
_VALIDATED = "best on validation"


def unlike_recordings(record: Record, known: KnownFrames) -> str:
    """Check that the numbers of recordings, and the checksums, are possible for this protocol and data set."""
    config, data, there = record["config"], record["data"], known.recordings
    protocol, (train, valid, test) = config["protocol"], (data["train"], data["valid"], data["test"])
    parts = {"train"} if protocol == "speakers" else set(there)
    if missing := sorted(parts - set(data.get("checksums", {}))):
        return f"it has no checksum of the recordings {', '.join(missing)}, which the protocol {protocol!r} reads"
    if on_test_set(record) == (protocol == "speakers"):
        return f"it says that it was tested on {data.get('tested_on')}, its protocol is {protocol!r}"
    if protocol == "speakers":
        fits = train + test == there["train"] and valid == test
    elif "valid" in there:
        fits = (train, valid) == (there["train"], there["valid"])
    elif protocol == "paper":
        fits = (train, valid) == (there["train"], test)
    else:
        fits = (train if config.get("refit") else train + valid) == there["train"] and 0 < valid < there["train"]
    if fits:
        return ""
    return f"of {there['train']} training recordings it says that {train} were trained on and {valid} validated on"


def unlike_accuracies(record: Record) -> str:
    """Check that accuracies are possible for that number of recordings, fit the protocol, and agree with the epochs."""
    config, data = record["config"], record["data"]
    protocol, refit = config["protocol"], bool(config.get("refit"))
    for rule, value in record["accuracy"].items():
        if not _comes_from(value, data["test"]):
            return f"its accuracy {value!r} ({rule}) cannot come from {data['test']} recordings"
    rules = {LAST} if protocol == "speakers" or refit else {LAST, "best on test" if protocol == "paper" else _VALIDATED}
    if set(record["accuracy"]) != rules:
        return f"its accuracies are {_words(record['accuracy'])}, those of its protocol {_words(rules)}"
    if refit != ("held_out" in record):
        return "its configuration and its record disagree on whether there was a training before a refit"
    trainings = [(record["epochs"], record["accuracy"][LAST] if protocol in ("speakers", "paper") else None)]
    if "held_out" in record:
        trainings.append((record["held_out"]["epochs"], record["held_out"]["accuracy"]))
    return next(filter(None, (_unlike_epochs(record, *training) for training in trainings)), "")


def _unlike_epochs(record: Record, epochs: list[Epoch], last: float | None) -> str:
    """Check one training. `last`: its last accuracy, if it was measured on the validation recordings; else None."""
    number = record["data"]["valid"]
    known = [(entry["epoch"], value) for entry in epochs if (value := entry["valid_accuracy"]) is not None]
    for epoch, value in known:
        if not _comes_from(value, number):
            return f"its accuracy {value!r} after epoch {epoch} cannot come from {number} validation recordings"
    if last is not None and not _comes_from(last, number):
        return f"its accuracy {last!r} before the refit cannot come from {number} validation recordings"
    few = max(_FEW, _SHARE * number) / number
    if last is not None and known and known[-1][0] == epochs[-1]["epoch"] and abs(known[-1][1] - last) > few:
        return f"its accuracy {last!r} is {known[-1][1]!r} on the same recordings in its last epoch"
    best = record["accuracy"].get("best on test")
    if best is not None and best < max((value for _, value in known), default=0) - few:
        return f"its accuracy {best!r} is called the best on test, and another epoch has more"
    return ""


def unlike_costs(record: Record) -> str:
    """Check that the costs of a recording are possible for the network, and agree with the spikes in the record."""
    costs, config, data = record.get("inference"), RunConfig(**record["config"]), record["data"]
    spikes = record["spikes_per_neuron"]
    if len(spikes) != len(config.hidden):
        return f"it has the spikes of {len(spikes)} hidden layers, its configuration has {len(config.hidden)}"
    if costs is None:
        return ""
    tail = 0 if config.delays == "none" else config.max_delay // 2
    steps = [data["steps"] + tail * n for n in range(1, len(config.hidden) + 2)]
    if costs["steps"] != steps:
        return f"its layers ran for {costs['steps']} steps, those of its configuration run for {steps}"
    sizes = (*config.hidden, len(data["classes"]))
    if not len(costs["active"]) == len(costs["operations"]) == len(sizes):
        return f"it has operations of {len(costs['operations'])} layers, its configuration has {len(sizes)}"
    for layer, (mean, size, active) in enumerate(zip(spikes, sizes, costs["active"][1:], strict=False), start=1):
        if abs(active - mean * size) > _ROUNDING * max(1, active):
            return f"it has {active:g} spikes in layer {layer}, and {mean:g} for each of {size} neurons"
    for layer, (active, operations, size) in enumerate(zip(costs["active"], costs["operations"], sizes, strict=True)):
        back = config.hidden[layer - 1] if layer and config.recurrent != "none" else 0
        if operations > active * (size * config.taps + back) * (1 + _ROUNDING):
            return (
                f"it has {operations:g} operations in layer {layer + 1}, more than {active:g} active inputs can cause"
            )
    return ""


def _comes_from(accuracy: float, recordings: int) -> bool:
    hits = accuracy * recordings
    return 0 <= accuracy <= 1 and abs(hits - round(hits)) <= _CLOSE * max(1, recordings)


def _words(rules: Iterable[str]) -> str:
    return " and ".join(sorted(rules, reverse=True))
