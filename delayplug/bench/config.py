"""What a run is made of, and the presets."""

import json
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..data import BINNINGS, Binning, HoldOut
from ..errors import ArgumentError
from .model.synapses import Variant, check_variant

SYNTHETIC = "synthetic"

Protocol = Literal["heldout", "official", "paper"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of one run.

    Attributes:
        dataset: "synthetic", or a folder in SHD's file layout.
        backend: name of the toolkit; a network cannot be made without one.
        delays: "none", "fixed", "constant", "learned", "axonal" or "dendritic", see `synapses`.
        seed: of weights, delays, batches, dropout and the validation split.
        preset: where the other values come from.
        hidden: sizes of the hidden layers.
        max_delay: in steps.
        taps: per synapse.
        fan_in: incoming synapses of each neuron; 0: from all.
        tau: time constant of the neurons in steps.
        dropout: of hidden spikes.
        lr, delay_lr: largest learning rates of weights and of delays (in steps).
        weight_decay: L2, of the weights.
        epochs, batch_size: of the training.
        sigma_until: fraction of the epochs over which sigma shrinks.
        step_ms, pool, binning: how recordings become frames.
        window_ms: only so much of each recording, from its first event on; 0: all of it.
        time_mask, channel_mask, cutmix: augmentations of the training data, see `Augmented`; 0: none.
        protocol: how the reported epoch is chosen: "heldout" by the validation file where the data has one, else by
            recordings held out of training; "official" by the validation file and by nothing else; "paper" as
            published for SHD, by the test set itself, which then is no longer one. The others read the test set once.
        validation: "auto", "speaker" or "stratified": what is held out, where something is.
        validation_fraction: of the training recordings, held out.
        compile: compile the loops over the time of toolkits that have no faster way.
    """

    dataset: str = SYNTHETIC
    backend: str = ""
    delays: Variant = "learned"
    seed: int = 0
    preset: str = "quick"
    hidden: tuple[int, ...] = (64,)
    max_delay: int = 24
    taps: int = 1
    fan_in: int = 0
    tau: float = 1.005
    dropout: float = 0.1
    lr: float = 5e-3
    delay_lr: float = 0.1
    weight_decay: float = 1e-5
    epochs: int = 20
    batch_size: int = 64
    sigma_until: float = 0.5
    step_ms: float = 10.0
    pool: int = 5
    binning: Binning = "grid"
    window_ms: float = 0.0
    time_mask: int = 0
    channel_mask: int = 0
    cutmix: float = 0.0
    protocol: Protocol = "heldout"
    validation: HoldOut = "auto"
    validation_fraction: float = 0.2
    compile: bool = False

    def __post_init__(self) -> None:
        choices = {"binning": BINNINGS, "preset": tuple(PRESETS), "protocol": PROTOCOLS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ArgumentError(name, f"one of {', '.join(known)}", repr(getattr(self, name)))
        check_variant(self.delays, self.taps, self.fan_in)
        if any(size < 1 for size in self.hidden):
            raise ArgumentError("hidden", "sizes >= 1", self.hidden)
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, "an integer >= 1", getattr(self, name))
        for name in ("window_ms", "time_mask", "channel_mask"):
            if getattr(self, name) < 0:
                raise ArgumentError(name, "a number >= 0", getattr(self, name))
        if not 0 <= self.cutmix <= 1:
            raise ArgumentError("cutmix", "a probability", self.cutmix)
        if not 0 <= self.seed < 2**32:
            raise ArgumentError("seed", "an integer from 0 to 2**32 - 1", self.seed)
        if not self.dataset:
            raise ArgumentError("dataset", "'synthetic' or a folder", repr(self.dataset))
        if self.batch_size == 1:
            raise ArgumentError("batch_size", "at least 2, for batch norm", 1)

    @property
    def cell(self) -> str:
        """The name of this run's folder."""
        data = self.dataset.rstrip("/").rpartition("/")[2]
        return f"{data}-{self.preset}-{self.backend}-{variant(self.delays, self.fan_in)}-seed{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """As JSON keeps it: tuples become lists."""
        return {**asdict(self), "hidden": list(self.hidden)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "RunConfig":
        """What `to_json` gave."""
        return cls(**{**values, "hidden": tuple(values["hidden"])})

    def differences(self, other: dict[str, Any]) -> list[str]:
        """What is not the same in the JSON of another configuration, in words."""
        mine = self.to_json()
        keys = sorted(mine.keys() | other.keys())
        return [f"{k}: {other.get(k)!r} there, {mine.get(k)!r} here" for k in keys if mine.get(k) != other.get(k)]


def variant(delays: str, fan_in: int) -> str:
    """What a run differs in from others of the same toolkit, such as "learned" or "learned-sparse10"."""
    return f"{delays}-sparse{fan_in}" if fan_in else delays


# Hammouamri et al., ICLR 2024, appendix; "quick" and "planted" are ours, for the synthetic task on a laptop.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {},
    # No hidden neurons: the delays alone must align each pattern.
    "planted": {"hidden": (), "dropout": 0.0, "delay_lr": 0.3, "epochs": 30},
    "shd": {
        "hidden": (256, 256),
        "max_delay": 24,
        "tau": 1.005,
        "dropout": 0.4,
        "epochs": 150,
        "batch_size": 256,
        "sigma_until": 0.25,
    },
    "ssc": {
        "hidden": (512, 512, 512),
        "max_delay": 30,
        "tau": 1.5,
        "dropout": 0.25,
        "epochs": 60,
        "batch_size": 128,
        "sigma_until": 0.25,
    },
}


_LISTS = ("backends", "delays", "fan_in", "seeds")  # of a comparison


def read_toml(path: Path) -> dict[str, Any]:
    """Settings of a comparison from a file: fields of `RunConfig`; `backends`, `delays`, `fan_in`, `seeds` as lists.

    Raises:
        ArgumentError: there is no such file, it is not TOML, or it says something that is not a setting.
    """
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ArgumentError("config", "a TOML file", path, str(error)) from error
    known = {field.name for field in fields(RunConfig)} - {"backend", "seed"} | {"backends", "seeds"}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise ArgumentError("config", f"settings among {', '.join(sorted(known))}", ", ".join(unknown))
    for name in _LISTS:
        if name in values and not isinstance(values[name], list):
            values[name] = [values[name]]
    return {name: tuple(value) if name == "hidden" else value for name, value in values.items()}


def to_toml(config: RunConfig) -> str:
    """What `read_toml` reads, for this run alone."""
    renamed = {"backend": "backends", "seed": "seeds"}
    # Strings, numbers, booleans and lists of numbers look the same in JSON and in TOML.
    lines = (f"{renamed.get(name, name)} = {json.dumps(value)}" for name, value in config.to_json().items())
    return "\n".join(lines) + "\n"


def configure(preset: str, **changes: Any) -> RunConfig:
    """A configuration: a preset, and what differs from it. Changes that are None count as not made."""
    if preset not in PRESETS:
        raise ArgumentError("preset", f"one of {', '.join(PRESETS)}", repr(preset))
    unknown = changes.keys() - {field.name for field in fields(RunConfig)}
    if unknown:
        raise ArgumentError("changes", "fields of RunConfig", ", ".join(sorted(unknown)))
    base = RunConfig(preset=preset, **PRESETS[preset])
    return replace(base, **{name: value for name, value in changes.items() if value is not None})
