"""Whether a record can be correct: known data, named versions, and numbers that are possible."""

from dataclasses import replace
from functools import cache

from ...deploy.costs import costs
from ...deploy.freeze import freeze_delays
from ...errors import RunError
from ...toolkits import plugins
from ..comparison.records import Record
from ..config import SYNTHETIC, RunConfig
from ..hardware import within_memory
from ..known_frames import KNOWN_FRAMES, KnownFrames, known_frames
from ..model.network import DelayNetwork
from ..model.synapses import without_masks
from .consistency import unlike_accuracies, unlike_costs, unlike_recordings

_NEEDED = ("python", "torch", "delayplug")


def doubts(record: Record) -> list[str]:
    """The reasons to refuse a record, in words; [] if it is accepted."""
    if missing := [name for name in ("backend", "delays", "seed", "protocol") if name not in record["config"]]:
        return [f"its configuration lacks {', '.join(missing)}"]
    known = known_frames(record["config"], record["data"].get("checksums"))
    if known is None:
        names = ", ".join(each.name for each in KNOWN_FRAMES)
        if not record["data"].get("checksums"):
            return [f"it has no checksums of its data (known are {names})"]
        return [f"the checksums of its data are those of no data set that is known: {names}"]
    if record["config"]["protocol"] == "validation":
        return [
            "its protocol is 'validation', which reads no test set and holds out no speakers: there is no column for it"
        ]
    checks = (
        _versions(record),
        _settings(record),
        _data(record, known) or unlike_recordings(record, known),
        unlike_accuracies(record),
        _parameters(record),
        unlike_costs(record),
    )
    return [doubt for doubt in checks if doubt]


def _versions(record: Record) -> str:
    backend = plugins.backend_package(record["config"]["backend"])
    missing = [name for name in (*_NEEDED, backend) if name not in record["versions"]]
    return f"it does not say the version of {', '.join(missing)}" if missing else ""


def _settings(record: Record) -> str:
    trained, asked = record["epochs"][-1]["epoch"], RunConfig(**record["config"]).epochs
    if trained != asked:
        return f"its last epoch is {trained}, its configuration asks for {asked}"
    best = record["best_epoch"]  # 0 where nothing was chosen
    return "" if 0 <= best <= asked else f"its best epoch is {best}, of {asked}"


def _data(record: Record, known: KnownFrames) -> str:
    config, data = record["config"], record["data"]
    channels = known.channels if config["dataset"] == SYNTHETIC else known.channels // config["pool"]
    expected = {"channels": channels, "classes": known.classes}
    actual = {"channels": data["channels"], "classes": len(data["classes"])}
    if config["protocol"] != "speakers":  # "speakers" tests on recordings of the training file
        expected["test recordings"], actual["test recordings"] = known.recordings["test"], data["test"]
    unlike = [
        f"{actual[name]} {name}, {known.name} has {expected[name]}"
        for name in expected
        if actual[name] != expected[name]
    ]
    return f"it has {'; '.join(unlike)}" if unlike else ""


def _parameters(record: Record) -> str:
    try:
        with within_memory("its configuration"):
            number = size_of(record).parameters
    except RunError as error:
        return str(error)
    if number == record["parameters"]:
        return ""
    return f"it says {record['parameters']:,} parameters, the network of its configuration has {number:,}"


class Size:
    """The size of a network.

    Attributes:
        parameters: number of trainable parameters.
        footprint: bytes of its parameters and buffers, with delays frozen to whole steps.
    """

    def __init__(self, parameters: int, footprint: int) -> None:
        self.parameters, self.footprint = parameters, footprint


def size_of(record: Record) -> Size:
    """The size of the network that a record's configuration describes."""
    config, data = RunConfig(**record["config"]), record["data"]
    ready = plugins.ready()
    backend = config.backend if config.backend in ready or not ready else ready[0]
    same = replace(
        config,
        backend=backend,
        dataset=SYNTHETIC,
        seed=0,
        protocol="heldout",
        fold=0,
        held_speakers=(),
        refit=False,
    )
    return _size(same, data["channels"], len(data["classes"]))


@cache
def _size(config: RunConfig, channels: int, classes: int) -> Size:
    network = DelayNetwork((channels, *config.hidden, classes), plugins.toolkit(config.backend), config).eval()
    parameters = network.trainable()
    if network.delays_now():
        freeze_delays(without_masks(network))
    return Size(parameters, costs(network).state_bytes)
