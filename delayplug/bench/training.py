"""Training one network, on Lightning: the paper's optimisers, schedules and loss."""

import contextlib
import copy
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from .. import plugins
from ..data import Frames
from ..errors import ArgumentError, RunError
from ..layers import LearnableDelay
from ..schedules import SigmaSchedule, parameter_groups
from .config import RunConfig
from .memory import PeakMemory
from .network import DelayNetwork, class_scores
from .tasks import Task

_EVALUATION_BATCH = 256

OnEpoch = Callable[[dict[str, Any]], None]


@dataclass
class Outcome:
    """What a run gave.

    Attributes:
        epochs: one entry per epoch: epoch, sigma, train_loss, train_accuracy, valid_accuracy, seconds.
        accuracy: on the test set, by the rule that chose the epoch: "last epoch" and the task's.
        best_epoch: chosen by validation among the epochs after sigma stopped shrinking, or by the test set among all.
        parameters: trainable, delays included.
        peak_memory_mb: of the process, or of the GPU.
        spikes: of a neuron in each hidden layer, the mean number per test recording after the last epoch.
        example: (time, channel) of each input event of the first test recording, and of each spike that it causes in
            the hidden layers after the last epoch, int64 (2, E) each.
        delays: per delay layer, before and after training, (O, I, N) steps.
        state: state dict of the network after the last epoch.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    accuracy: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    parameters: int = 0
    peak_memory_mb: float = 0.0
    spikes: list[float] = field(default_factory=list)
    example: list[Tensor] = field(default_factory=list)
    delays: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    state: dict[str, Tensor] = field(default_factory=dict)


def train(
    config: RunConfig,
    task: Task,
    *,
    accelerator: str = "auto",
    on_epoch: OnEpoch | None = None,
    checkpoint: Path | None = None,
) -> Outcome:
    """Train the network that `config` describes and test it once, at the end.

    Args:
        config: the run.
        task: its data.
        accelerator: as Lightning takes it.
        on_epoch: called with each epoch's entry, those of before an interruption included.
        checkpoint: file to write after every epoch, and to go on from if it is there. A run that was interrupted at any
            point ends with the numbers of one that was not: every epoch draws from a seed of its own.

    Raises:
        RunError: the checkpoint is of another configuration, or damaged.
    """
    with _quiet():
        lightning.seed_everything(config.seed, verbose=False)
        network = build_network(config, task)
        outcome = Outcome(parameters=sum(p.numel() for p in network.parameters() if p.requires_grad))
        initial = [layer.delays.detach().clone() for layer in _delay_layers(network)]
        module = _Training(network, config, outcome, initial, on_epoch, every_epoch=task.rule == "best on test")
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=config.epochs,
            logger=False,
            enable_checkpointing=checkpoint is not None,
            callbacks=[] if checkpoint is None else [_AfterEveryEpoch(checkpoint)],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        valid, test = (_loader(part, _EVALUATION_BATCH) for part in (task.valid, task.test))
        with PeakMemory() as peak:
            trainer.fit(
                module,
                _loader(task.train, config.batch_size, shuffle=config.seed),
                valid,
                ckpt_path=checkpoint if checkpoint is not None and _is_whole(checkpoint) else None,
                weights_only=True,
            )
            final = copy.deepcopy(network.state_dict())
            for rule, state in {"last epoch": final, task.rule: module.best_state}.items():
                network.load_state_dict(state)
                trainer.test(module, test, verbose=False)
                outcome.accuracy[rule] = module.accuracy
        network.load_state_dict(final)
        outcome.spikes, outcome.example = _activity(network.eval(), task.test)
        outcome.peak_memory_mb = peak.megabytes
    after = [layer.delays.detach().cpu().clone() for layer in _delay_layers(network)]
    outcome.delays = list(zip(initial, after, strict=True))
    outcome.state = {name: value.cpu() for name, value in final.items()}
    return outcome


@torch.no_grad()
def _activity(network: DelayNetwork, frames: Frames) -> tuple[list[float], list[Tensor]]:
    """(spikes per neuron and recording in each hidden layer, where they are in the first recording)."""
    device = next(network.parameters()).device
    total, example = torch.zeros(len(network.neurons), dtype=torch.float64), []
    for start in range(0, len(frames), _EVALUATION_BATCH):
        x, _ = frames.batch(range(start, min(start + _EVALUATION_BATCH, len(frames))))
        hidden = network.activity(x.to(device))[:-1]
        total += torch.stack([spikes.sum().double().cpu() / spikes.shape[2] for spikes in hidden])
        if start == 0:
            example = [values[:, 0].nonzero().t().cpu() for values in (x, *hidden)]
    return (total / len(frames)).tolist(), example


def check_accelerator(accelerator: str) -> None:
    """Raise ArgumentError unless Lightning finds this accelerator here."""
    try:
        with _quiet():
            lightning.Trainer(accelerator=accelerator, devices=1, logger=False, enable_checkpointing=False)
    except (ValueError, MisconfigurationException) as error:
        raise ArgumentError("accelerator", "one that is there: cpu, gpu, auto, ...", repr(accelerator)) from error


def build_network(config: RunConfig, task: Task) -> DelayNetwork:
    """The untrained network of a run."""
    return DelayNetwork(
        (task.channels, *config.hidden, task.classes),
        plugins.toolkit(config.backend),
        delays=config.delays,
        max_delay=config.max_delay,
        taps=config.taps,
        tau=config.tau,
        dropout=config.dropout,
        compile=config.compile,
    )


class _Training(lightning.LightningModule):
    """Two optimisers (weights: Adam with OneCycle; delays: Adam with cosine), stepped by hand, scheduled per epoch."""

    def __init__(
        self,
        network: DelayNetwork,
        config: RunConfig,
        outcome: Outcome,
        initial: list[Tensor],
        on_epoch: OnEpoch | None,
        every_epoch: bool,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.initial, self.on_epoch, self.every_epoch = initial, on_epoch, every_epoch
        self.network, self.config, self.outcome = network, config, outcome
        learned = config.delays == "learned"
        self.sigma = SigmaSchedule(network, config.epochs, until=config.sigma_until) if learned else None
        self.best_state: dict[str, Tensor] = {}
        self.best_accuracy = -1.0
        self.accuracy = 0.0
        self._seconds = 0.0
        self._start_counting()

    def configure_optimizers(self) -> Any:
        config = self.config
        groups = parameter_groups(self.network, config.lr, config.delay_lr, config.weight_decay)
        weights = torch.optim.Adam([group for group in groups if group["name"] != "delays"])
        one_cycle = torch.optim.lr_scheduler.OneCycleLR(weights, max_lr=config.lr, total_steps=config.epochs)
        delays = [group for group in groups if group["name"] == "delays"]
        if not delays:
            return [weights], [one_cycle]
        positions = torch.optim.Adam(delays)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(positions, T_max=config.epochs)
        return [weights, positions], [one_cycle, cosine]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["delayplug"] = {
            "config": self.config.to_json(),
            "epochs": self.outcome.epochs,
            "best_epoch": self.outcome.best_epoch,
            "best_accuracy": self.best_accuracy,
            "best_state": self.best_state,
            "initial": self.initial,
            "sigma": None if self.sigma is None else self.sigma.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = checkpoint["delayplug"]
        differences = self.config.differences(kept["config"])
        if differences:
            advice = "Choose another --out, or move it away"
            raise RunError(
                f"the run that was interrupted has another configuration ({'; '.join(differences)}). {advice}"
            )
        self.outcome.epochs[:], self.outcome.best_epoch = kept["epochs"], kept["best_epoch"]
        self.best_accuracy, self.best_state = kept["best_accuracy"], kept["best_state"]
        self.initial[:] = kept["initial"]
        if self.sigma is not None:
            self.sigma.load_state_dict(kept["sigma"])
        if self.on_epoch is not None:
            for entry in kept["epochs"]:
                self.on_epoch(entry)

    def on_train_epoch_start(self) -> None:
        # Dropout of an epoch does not depend on whether those before it were made by the same process.
        torch.manual_seed(_seed(self.config.seed, self.current_epoch))
        self._start_counting()
        self._start = time.perf_counter()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        x, y = batch
        scores = class_scores(self.network(x))
        loss = nn.functional.cross_entropy(scores, y)  # softmax twice, as in the paper
        optimizers = _listed(self.optimizers())
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        self._loss += loss.detach() * len(y)
        self._count(scores, y)

    def on_train_epoch_end(self) -> None:
        # Lightning validates before this hook: the times and hits of training were taken at the start of validation.
        for scheduler in _listed(self.lr_schedulers()):
            scheduler.step()
        entry = {
            "epoch": self.current_epoch + 1,
            "sigma": None if self.sigma is None else self.sigma.after(self.sigma.epoch)[0],
            "train_loss": self._train_loss,
            "train_accuracy": self._train_accuracy,
            "valid_accuracy": self.accuracy,
            "seconds": self._seconds,
        }
        if self.sigma is not None:
            self.sigma.step()
        self._choose(entry)
        self.outcome.epochs.append(entry)
        if self.on_epoch is not None:
            self.on_epoch(entry)

    def _choose(self, entry: dict[str, Any]) -> None:
        # While sigma is wide, the network with rounded delays is another one than the network being trained.
        settled = self.sigma is None or entry["epoch"] > self.sigma.length or entry["epoch"] == self.config.epochs
        if (settled or self.every_epoch) and entry["valid_accuracy"] >= self.best_accuracy:
            self.best_accuracy = entry["valid_accuracy"]
            self.best_state = copy.deepcopy(self.network.state_dict())
            self.outcome.best_epoch = entry["epoch"]

    def on_validation_epoch_start(self) -> None:
        self._train_loss, self._train_accuracy = float(self._loss) / self._seen, self._counted
        self._seconds = time.perf_counter() - self._start
        self._start_counting()

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        x, y = batch
        self._count(class_scores(self.network(x)), y)

    def on_validation_epoch_end(self) -> None:
        self.accuracy = self._counted

    def on_test_epoch_start(self) -> None:
        self._start_counting()

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.validation_step(batch, index)

    def on_test_epoch_end(self) -> None:
        self.accuracy = self._counted

    def _start_counting(self) -> None:
        # Where the network is: to ask for a number at every step would wait for the device.
        device = next(self.network.parameters()).device
        self._loss = torch.zeros((), device=device)
        self._hits = torch.zeros((), dtype=torch.int64, device=device)
        self._seen = 0

    def _count(self, scores: Tensor, y: Tensor) -> None:
        # Counted, not averaged over batches: the accuracy does not depend on how the data was cut.
        self._hits += (scores.argmax(-1) == y).sum()
        self._seen += len(y)

    @property
    def _counted(self) -> float:
        """The part of what was seen that was right."""
        return int(self._hits) / self._seen


class _AfterEveryEpoch(Checkpoint):
    """Writes a checkpoint, whole or not at all, when all else of an epoch is done."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        trainer.save_checkpoint(temporary)
        temporary.replace(self.path)


def _is_whole(checkpoint: Path) -> bool:
    """Whether there is one; RunError if it cannot be read."""
    if not checkpoint.exists():
        return False
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True)["delayplug"]
    except Exception as error:
        advice = "Delete it to begin anew"
        raise RunError(
            f"{checkpoint}: expected a checkpoint of a run, got a damaged file ({error}). {advice}"
        ) from error
    return True


class _Shuffled(Sampler[int]):
    """Another order in every epoch, which depends on nothing but the seed and the epoch."""

    def __init__(self, number: int, seed: int) -> None:
        self.number, self.seed, self.epoch = number, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(_seed(self.seed, self.epoch))
        return iter(torch.randperm(self.number, generator=generator).tolist())

    def __len__(self) -> int:
        return self.number


def _seed(seed: int, epoch: int) -> int:
    """Of one epoch of a run: another one for each of both."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])


def _loader(frames: Frames, batch_size: int, shuffle: int | None = None) -> "DataLoader[Any]":
    """In order, or shuffled with a seed."""
    # A last batch of one cannot be normalised; with fewer recordings than a batch, take what there is.
    drop = shuffle is not None and len(frames) % batch_size == 1 and len(frames) > 1
    return DataLoader(
        range(len(frames)),  # type: ignore[arg-type]
        batch_size,
        sampler=None if shuffle is None else _Shuffled(len(frames), shuffle),
        collate_fn=frames.batch,
        drop_last=drop,
        generator=torch.Generator(),  # it draws a seed for workers, and must not take it from what dropout draws from
        pin_memory=torch.cuda.is_available(),
    )


def _delay_layers(network: nn.Module) -> list[LearnableDelay]:
    return [module for module in network.modules() if isinstance(module, LearnableDelay)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice on workers and accelerators is not the user's concern here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
