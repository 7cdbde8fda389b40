"""The configuration of a run, and the presets.

A new setting is one more field of `RunConfig`: `delayplug bench run` has an option for every field, a TOML file may
have each as a key, and the record of a run holds all of them. Nothing here imports torch.
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal

from ..data import Binning, HoldOut, TimeUnit
from ..errors import ArgumentError, RunError, did_you_mean
from .settings import Setting, check_settings
from .variants import PER_SYNAPSE, Variant, variant_name

SYNTHETIC = "synthetic"

Protocol = Literal["heldout", "official", "paper", "speakers", "validation"]
Precision = Literal["highest", "high", "medium"]
Neuron = Literal["lif", "adlif"]
Readout = Literal["sum", "mean", "max"]
Recurrence = Literal["none", "plain", "axonal", "synaptic"]
Reset = Literal["zero", "subtract"]

# Hammouamri et al., ICLR 2024, appendix; "quick" and "planted" are ours, for the synthetic task on a laptop, and so is
# "sc10", which is "ssc" with one small layer, for two CPU cores.
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
    "sc10": {
        "hidden": (128,),
        "max_delay": 30,
        "tau": 1.5,
        "dropout": 0.25,
        "epochs": 12,
        "batch_size": 64,
        "sigma_until": 0.25,
    },
}
# The headings under which the help of a command lists the fields.
PANELS: dict[str, tuple[str, ...]] = {
    "What is compared": ("dataset", "backend", "delays", "seed", "preset"),
    "Network": (
        *("hidden", "max_delay", "taps", "fan_in", "recurrent", "reset", "tau"),
        *("neuron", "neuron_lr", "adaptation", "readout"),
    ),
    "Training": (
        *("dropout", "lr", "delay_lr", "weight_decay", "epochs", "batch_size", "sigma_until"),
        *("validate_every", "precision", "compile"),
    ),
    "Data": ("step_ms", "pool", "binning", "time_unit", "window_ms"),
    "Augmentation": ("time_mask", "channel_mask", "cutmix", "channel_shift", "blend", "thin", "time_scale"),
    "Protocol": ("protocol", "validation", "validation_fraction", "fold", "held_speakers", "refit"),
}
# The default presets of known data sets; see `delayplug.data.known_data`.
PRESET_OF_DATA = {"SHD": "shd", "SHD-R": "shd", "SSC": "ssc", "SC10": "sc10"}


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of one run. The help text of a field says what it is.

    Raises:
        ArgumentError: a value of the wrong type or out of its bounds.
    """

    dataset: Annotated[
        str, Setting("'synthetic', or a folder with *_train, *_test (and *_valid) in SHD's layout, .h5 or .h5.gz.")
    ] = SYNTHETIC
    backend: Annotated[str, Setting("Toolkits.", default_text="all that work", plural="backends", flag="--backend")] = (
        ""
    )
    delays: Annotated[
        Variant,
        Setting(
            "which delays there are; constant has a constant sigma, axonal and dendritic one delay per channel.",
            default_text="none fixed learned",
            plural="delays",
        ),
    ] = "learned"
    seed: Annotated[
        int,
        Setting(
            "Of everything random: weights, delays, batches, dropout, held-out recordings.",
            at_least=0,
            at_most=2**32 - 1,
            plural="seeds",
        ),
    ] = 0
    preset: Annotated[
        str,
        Setting(
            "Name of the preset that all other settings take their defaults from.",
            choices=tuple(PRESETS),
            default_text="that of the data set; quick, shd for a folder",
        ),
    ] = "quick"
    hidden: Annotated[tuple[int, ...], Setting("Sizes of the hidden layers.", at_least=1)] = (64,)
    max_delay: Annotated[int, Setting("Longest delay, in steps.", at_least=0)] = 24
    taps: Annotated[int, Setting("Weights and delays per synapse.", at_least=1)] = 1
    fan_in: Annotated[
        int, Setting("Incoming synapses of each neuron, drawn at random; 0 for all.", at_least=0, plural="fan_in")
    ] = 0
    recurrent: Annotated[
        Recurrence,
        Setting(
            "Recurrent connections within each hidden layer: none; without delays (plain); or with learned "
            "delays, one per sending neuron (axonal) or per synapse (synaptic)."
        ),
    ] = "none"
    reset: Annotated[
        Reset,
        Setting("What a spike does to the membrane: set it to zero, or subtract the threshold (with a gradient)."),
    ] = "zero"
    tau: Annotated[float, Setting("Time constant of the neurons, in steps.", above=1)] = 1.005
    neuron: Annotated[
        Neuron, Setting("Hidden neurons: leaky with the time constant tau, or adaptive with learned constants (adLIF).")
    ] = "lif"
    neuron_lr: Annotated[
        float, Setting("Largest learning rate of the learned constants of adaptive neurons.", at_least=0)
    ] = 1e-2
    adaptation: Annotated[
        float, Setting("Bound q of the adaptation of adaptive neurons: a lies in 0..q, b in 0..2q.", at_least=0)
    ] = 12.0
    readout: Annotated[
        Readout,
        Setting("Scores of the classes: the readout's softmax summed over time, its membrane's mean, or its maximum."),
    ] = "sum"
    dropout: Annotated[float, Setting("Share of hidden spikes dropped in training.", at_least=0, below=1)] = 0.1
    lr: Annotated[float, Setting("Largest learning rate of the weights.", at_least=0)] = 5e-3
    delay_lr: Annotated[float, Setting("Largest learning rate of the delays, in steps.", at_least=0)] = 0.1
    weight_decay: Annotated[float, Setting("L2 penalty of the weights.", at_least=0)] = 1e-5
    epochs: Annotated[int, Setting("Length of the training.", at_least=1)] = 20
    batch_size: Annotated[int, Setting("Recordings per step, on all devices together.", at_least=2)] = 64
    sigma_until: Annotated[float, Setting("Share of the epochs over which sigma shrinks.", above=0, at_most=1)] = 0.5
    step_ms: Annotated[float, Setting("Length of a step, in milliseconds.", above=0)] = 10.0
    pool: Annotated[int, Setting("Neighbouring channels that are summed.", at_least=1)] = 5
    binning: Annotated[Binning, Setting("Steps of equal length, or frames that open at an event (the paper's).")] = (
        "grid"
    )
    time_unit: Annotated[
        TimeUnit, Setting("Of the times in the files; check: seconds, refused where they look like ms or us.")
    ] = "check"
    window_ms: Annotated[
        float, Setting("Milliseconds of each recording that are used, from its first event on; 0: all.", at_least=0)
    ] = 0.0
    time_mask: Annotated[int, Setting("Most steps blanked in a row; 0: none.", at_least=0)] = 0
    channel_mask: Annotated[int, Setting("Most channels blanked in a row; 0: none.", at_least=0)] = 0
    cutmix: Annotated[
        float,
        Setting("Probability that a piece of another recording is mixed in.", at_least=0, at_most=1),
    ] = 0.0
    channel_shift: Annotated[int, Setting("Largest shift of a recording up or down, in channels.", at_least=0)] = 0
    blend: Annotated[
        float,
        Setting(
            "Probability that a recording is blended, half and half, with another one of its class.",
            at_least=0,
            at_most=1,
        ),
    ] = 0.0
    thin: Annotated[
        float,
        Setting(
            "Largest share of a recording's cells (channel and step) that are set to zero.",
            at_least=0,
            below=1,
        ),
    ] = 0.0
    time_scale: Annotated[
        float,
        Setting("Largest share by which a recording is stretched or compressed in time.", at_least=0, below=1),
    ] = 0.0
    protocol: Annotated[
        Protocol,
        Setting(
            "How the reported epoch is chosen: by held-out recordings (heldout), by the validation file (official), "
            "or by the test set (paper). With speakers and validation no epoch is chosen and the test set is not read: "
            "the run is tested on held-out training speakers, or on the validation file."
        ),
    ] = "heldout"
    validation: Annotated[
        HoldOut, Setting("What is held out of the training recordings: speakers, or some per class.")
    ] = "auto"
    validation_fraction: Annotated[
        float, Setting("Share of the training recordings, or of their speakers, held out.", above=0, below=1)
    ] = 0.2
    fold: Annotated[
        int,
        Setting(
            "With --protocol speakers: which pair of the training speakers is held out, from 0 on.",
            default_text="all",
            at_least=0,
            plural="folds",
        ),
    ] = 0
    held_speakers: Annotated[
        tuple[int, ...],
        Setting(
            "With --protocol speakers: numbers of the speakers that are held out, instead of those of a fold.",
            default_text="a fold's",
            at_least=0,
        ),
    ] = ()
    refit: Annotated[
        bool,
        Setting(
            "With --protocol heldout: after a network was judged by held-out recordings, train another one on all "
            "training recordings, and test that one."
        ),
    ] = False
    validate_every: Annotated[
        int, Setting("Epochs from one validation to the next; the last epoch is always validated.", at_least=1)
    ] = 1
    precision: Annotated[
        Precision, Setting("Of products of float32 numbers, as torch.set_float32_matmul_precision takes it.")
    ] = "highest"
    compile: Annotated[
        bool,
        Setting(
            "Compile the loops over time of toolkits that have no faster way: faster steps after a slow first one."
        ),
    ] = False

    def __post_init__(self) -> None:
        check_settings(self)
        if self.taps > 1 and self.delays not in PER_SYNAPSE:
            expected = f"1 for the variant {self.delays!r}, which has no delay per synapse"
            raise ArgumentError("taps", expected, self.taps, f"Take --delays {' '.join(PER_SYNAPSE)}")
        if self.recurrent != "none" and not self.hidden:
            raise ArgumentError("recurrent", "'none' for a network without hidden layers", repr(self.recurrent))
        if self.neuron != "lif" and not self.hidden:
            raise ArgumentError("neuron", "'lif' for a network without hidden layers", repr(self.neuron))
        if self.neuron == "adlif" and self.reset != "zero":
            raise ArgumentError("reset", "'zero' with adaptive neurons, which have no other reset", repr(self.reset))
        if not self.dataset:
            raise ArgumentError("dataset", "'synthetic' or a folder", repr(self.dataset))
        self._check_protocol()
        for name in ("hidden", "held_speakers"):  # JSON, TOML and the command line give lists
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def _check_protocol(self) -> None:
        needed = {"fold": "speakers", "held_speakers": "speakers", "refit": "heldout"}
        for name, protocol in needed.items():
            if (value := getattr(self, name)) and self.protocol != protocol:
                expected = f"no such setting with the protocol {self.protocol!r}"
                raise ArgumentError(name, expected, value, f"Take --protocol {protocol}")
        if self.fold and self.held_speakers:
            expected = f"none together with fold {self.fold}"
            raise ArgumentError("held_speakers", expected, self.held_speakers, "Set one of the two only")

    @property
    def name(self) -> str:
        """The name of this run's folder."""
        data = self.dataset.rstrip("/").rpartition("/")[2]
        variant = variant_name(self.delays, self.fan_in, self.recurrent)
        variant += "" if self.neuron == "lif" else f"-{self.neuron}"
        held = f"-{self.held_out.replace(' ', '')}" if self.held_out else ""
        return f"{data}-{self.preset}-{self.backend}-{variant}{held}-seed{self.seed}"

    @property
    def held_out(self) -> str:
        """The speakers that are held out, such as "fold 2" or "speakers 6-8"; "" unless the protocol is "speakers"."""
        if self.protocol != "speakers":
            return ""
        return f"speakers {'-'.join(map(str, self.held_speakers))}" if self.held_speakers else f"fold {self.fold}"

    @property
    def all_epochs(self) -> int:
        """The total number of epochs of this run, which trains twice with a refit."""
        return self.epochs * (2 if self.refit else 1)

    def to_json(self) -> dict[str, Any]:
        """The fields, with lists for tuples: `RunConfig(**values)` makes the configuration again."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def check_same(self, other: dict[str, Any], where: str) -> None:
        """Raise RunError, which names the differences, unless `where` has the JSON of this very configuration."""
        mine = self.to_json()
        keys = sorted(mine.keys() | other.keys())
        unlike = [f"{k}: {other.get(k)!r} there, {mine.get(k)!r} here" for k in keys if mine.get(k) != other.get(k)]
        if unlike:
            shown = "; ".join(unlike[:3]) + (f"; and {len(unlike) - 3} more" if len(unlike) > 3 else "")
            raise RunError(f"{where} has another configuration ({shown}). Choose another --out, or move it away")


def configure(preset: str, **changes: Any) -> RunConfig:
    """A preset with other values for some fields; None leaves a field as it is.

    Raises:
        ArgumentError: no such preset or field, or a value that is not allowed.
    """
    names = [field.name for field in fields(RunConfig)]
    if unknown := sorted(changes.keys() - set(names)):
        raise ArgumentError("changes", "fields of RunConfig", ", ".join(unknown), did_you_mean(unknown[0], names))
    base = RunConfig(preset=preset, **PRESETS.get(preset, {}))
    return replace(base, **{name: value for name, value in changes.items() if value is not None})
