"""Trained networks by name, in any toolkit.

Shapes: T steps, B recordings of a batch, C channels.
"""

from dataclasses import replace
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from ..bench.config import RunConfig
from ..bench.model.network import DelayNetwork, class_scores
from ..data import Frames, Recordings, bin_recordings
from ..errors import ArgumentError, DataError, did_you_mean
from ..toolkits import plugins
from .card import Card
from .network_file import SUFFIX, read_card, read_network


class Pretrained(DelayNetwork):
    """A trained network of the benchmark: an `nn.Module` that can be evaluated, trained further, frozen or exported.

    Its forward maps events per step, (T, B, C), to the membrane of the readout at every step, (T, B, classes).

    Attributes:
        card: its description: data, training, accuracy, versions.
        config: the configuration of its run.
        classes: the names of the classes.
        steps: T, the number of steps of a recording.
    """

    def __init__(self, card: Card, backend: str) -> None:
        config, data = replace(RunConfig(**card["config"]), compile=False), card["data"]
        super().__init__((data["channels"], *config.hidden, len(data["classes"])), plugins.toolkit(backend), config)
        self.card, self.config = card, config
        self.classes, self.steps = tuple(data["classes"]), data["steps"]

    def scores(self, x: Tensor) -> Tensor:
        """The score of each class, (B, classes); the class with the largest score is the prediction.

        Args:
            x: events per step, (T, B, C) with at most `steps` steps; missing steps are filled with zeros.

        Raises:
            ArgumentError: x has another shape, or more steps than the recordings that the readout was trained on.
        """
        if x.ndim != 3:
            raise ArgumentError("x", f"shape (T, B, {self.card['data']['channels']})", tuple(x.shape))
        missing = self.steps - x.shape[0]
        if missing < 0:
            raise ArgumentError("x", f"at most {self.steps} steps", x.shape[0])
        return class_scores(self(torch.cat((x, x.new_zeros(missing, *x.shape[1:])))), self.config.readout)

    def frames(self, recordings: Recordings) -> Frames:
        """Bin recordings like those that this network was trained on, with the same step, channels and length."""
        config, steps = self.config, self.steps
        return bin_recordings(recordings, step_ms=config.step_ms, pool=config.pool, binning=config.binning, steps=steps)


def pretrained_names() -> list[str]:
    """The names of the networks that come with delayplug.

    >>> "synthetic-learned" in pretrained_names()
    True
    """
    return sorted(path.name.removesuffix(SUFFIX) for path in networks_folder().iterdir() if path.name.endswith(SUFFIX))


def model_card(name: str) -> Card:
    """The description of a network: data, training, accuracy, versions. The network is not loaded.

    Args:
        name: as for `pretrained`.

    Raises:
        ArgumentError, DataError: as for `pretrained`.
    """
    return read_card(_file(name))


def pretrained(name: str, *, backend: str | None = None) -> Pretrained:
    """Load a trained network, in `eval()` mode, with the neurons of a toolkit. Parameters do not depend on the toolkit.

    The delays are those at the end of training, which are not whole steps, so that training can continue. In `eval()`
    mode they are rounded; `freeze_delays` makes them integers.

    Args:
        name: one of `pretrained_names()`, or the path of a file that `delayplug bench publish` made.
        backend: the toolkit; None: the one that it was trained with if it is installed, else the first installed one.

    Raises:
        ArgumentError: there is no network of that name; the message lists all names.
        BackendError: the toolkit is unknown or cannot be used.
        DataError: the file does not exist or is damaged.

    >>> import torch
    >>> network = pretrained("synthetic-learned", backend="norse")
    >>> network.scores(torch.zeros(network.steps, 1, 20)).shape
    torch.Size([1, 10])
    """
    path = _file(name)
    card, state = read_network(path)
    network = Pretrained(card, backend or usual_backend(card))
    load_stored(network, state, str(path))
    return network.eval()


def load_stored(network: DelayNetwork, state: dict[str, Tensor], where: str) -> None:
    """Load tensors from a file, named as in `portable`; the constants of the toolkit's neurons are not in it.

    Raises:
        DataError: the tensors are those of another network.
    """
    current, names = network.state_dict(), portable(network)
    expected = {name: tuple(current[key].shape) for name, key in names.items()}
    actual = {name: tuple(value.shape) for name, value in state.items()}
    if unlike := sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name)):
        first = unlike[0]
        raise DataError(
            f"{where}: expected the tensors of the network that it describes, got others: {first} has shape "
            f"{actual.get(first, 'none')}, expected {expected.get(first, 'none')}"
        )
    network.load_state_dict(current | {key: state[name] for name, key in names.items()})


def portable(network: DelayNetwork) -> dict[str, str]:
    """The keys of a network's `state_dict` that a file stores, by names that do not depend on the toolkit.

    Buffers of neurons are left out: they follow from the configuration. The keys of the learned constants of adaptive
    neurons differ between toolkits; their names are "adaptive.LAYER.CONSTANT".
    """
    layers = {id(layer): n for n, layer in enumerate(network.adaptive)}
    learned = {
        f"{prefix}.{name}": f"adaptive.{layers[id(module)]}.{name}"
        for prefix, module in network.named_modules()
        if id(module) in layers
        for name, _ in module.named_parameters()
    }
    keys = [key for key in network.state_dict() if not key.startswith(("neurons.", "readout."))]
    return {key: key for key in keys} | {name: key for key, name in learned.items()}


def usual_backend(card: Card) -> str:
    """The toolkit that a network was trained with, if it can be used, else the first one that can."""
    trained_with: str = card["config"]["backend"]
    ready = plugins.ready()
    return trained_with if trained_with in ready or not ready else ready[0]


def networks_folder() -> Path:
    """The folder of the networks that come with delayplug."""
    return Path(str(resources.files(__package__))) / "trained"


def _file(name: str) -> Path:
    if not isinstance(name, str | Path):
        raise ArgumentError("name", f"one of {', '.join(pretrained_names())}, or a file", repr(name))
    if str(name).endswith(SUFFIX):
        if not Path(name).exists():
            raise DataError(f"{name}: expected the file of a trained network, got none. Check the path")
        return Path(name)
    if name not in (names := pretrained_names()):
        raise ArgumentError(
            "name", f"one of {', '.join(names)}, or a file *{SUFFIX}", repr(name), did_you_mean(name, names)
        )
    return networks_folder() / f"{name}{SUFFIX}"
