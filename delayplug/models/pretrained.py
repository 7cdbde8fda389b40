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
from ..errors import ArgumentError, DataError
from ..toolkits import plugins
from .card import Card
from .network_file import SUFFIX, read_card, read_network


class Pretrained(DelayNetwork):
    """A trained network of the benchmark, in `eval()`. Its forward gives the readout's membrane at every step.

    It is a module like any other: it can be trained on, frozen, exported.

    Attributes:
        card: what it was trained on and how, its accuracy, its versions.
        config: of its run.
        classes: their names.
        steps: T, of a recording.
    """

    def __init__(self, card: Card, backend: str) -> None:
        config, data = replace(RunConfig(**card["config"]), compile=False), card["data"]
        super().__init__((data["channels"], *config.hidden, len(data["classes"])), plugins.toolkit(backend), config)
        self.card, self.config = card, config
        self.classes, self.steps = tuple(data["classes"]), data["steps"]

    def scores(self, x: Tensor) -> Tensor:
        """The score of each class, the largest of which is the prediction: (T, B, C) to (B, classes).

        Args:
            x: events per step, of at most `steps` steps; shorter recordings are filled up with zeros.

        Raises:
            ArgumentError: there are more steps, over which the readout was not trained; or x has another shape.
        """
        if x.ndim != 3:
            raise ArgumentError("x", f"shape (T, B, {self.card['data']['channels']})", tuple(x.shape))
        missing = self.steps - x.shape[0]
        if missing < 0:
            raise ArgumentError("x", f"at most {self.steps} steps", x.shape[0])
        return class_scores(self(torch.cat((x, x.new_zeros(missing, *x.shape[1:])))), self.config.readout)

    def frames(self, recordings: Recordings) -> Frames:
        """Recordings as this network takes them: binned as those that it was trained on, and of the same length."""
        config, steps = self.config, self.steps
        return bin_recordings(recordings, step_ms=config.step_ms, pool=config.pool, binning=config.binning, steps=steps)


def pretrained_names() -> list[str]:
    """The names of the networks that come with delayplug.

    >>> "synthetic-learned" in pretrained_names()
    True
    """
    return sorted(path.name.removesuffix(SUFFIX) for path in networks_folder().iterdir() if path.name.endswith(SUFFIX))


def model_card(name: str) -> Card:
    """What is known of a network, without loading it.

    Args:
        name: as for `pretrained`.

    Raises:
        ArgumentError, DataError: as `pretrained`.
    """
    return read_card(_file(name))


def pretrained(name: str, *, backend: str | None = None) -> Pretrained:
    """A trained network, with the neurons of a toolkit. Its numbers are the same in each.

    Delays are those of the end of the training, between whole steps: `eval()` rounds them, `freeze_delays` makes them
    integers, and training goes on from them.

    Args:
        name: one of `pretrained_names()`, or the path of a file that `delayplug bench publish` made.
        backend: the toolkit; None: the one that it was trained with if that is installed, else the first that is.

    Raises:
        ArgumentError: there is no such network; the message has the names of those that there are.
        BackendError: the toolkit cannot be used.
        DataError: the file is damaged.

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
    """Load what a file has, by the names of `portable`. What it lacks are constants of the toolkit's neurons.

    Raises:
        DataError: the numbers are those of another network.
    """
    own, names = network.state_dict(), portable(network)
    expected = {name: tuple(own[key].shape) for name, key in names.items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if unlike := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        first = unlike[0]
        raise DataError(
            f"{where}: expected the numbers of the network that it describes, got others: {first} has shape "
            f"{found.get(first, 'none')}, expected {expected.get(first, 'none')}"
        )
    network.load_state_dict(own | {key: state[name] for name, key in names.items()})


def portable(network: DelayNetwork) -> dict[str, str]:
    """The keys of a network's `state_dict` that belong to it under every toolkit, by names that every toolkit has.

    All but the buffers of neurons, which are constants of the configuration. The learned constants of adaptive neurons
    lie in other places in each toolkit, and are called "adaptive.LAYER.CONSTANT".
    """
    layers = {id(layer): n for n, layer in enumerate(network.adaptive)}
    learned = {
        f"{place}.{name}": f"adaptive.{layers[id(module)]}.{name}"
        for place, module in network.named_modules()
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
            raise DataError(f"{name}: expected the file of a trained network, got none")
        return Path(name)
    if name not in (names := pretrained_names()):
        raise ArgumentError("name", f"one of {', '.join(names)}, or a file *{SUFFIX}", repr(name))
    return networks_folder() / f"{name}{SUFFIX}"
