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
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from ...data import Augmented, Frames
from ...errors import ArgumentError, RunError
from ...learning.schedules import SigmaSchedule, parameter_groups
from ...toolkits import plugins
from ..config import RunConfig
from ..model.network import DelayNetwork, class_scores
from ..model.synapses import ANNEALED
from ..processes import summed, world
from ..task import Task
from .batches import EVALUATION_BATCH, evaluation_loader, seed_of, training_loader
from .peak_memory import PeakMemory

OnEpoch = Callable[[dict[str, Any]], None]


@dataclass
class Outcome:
    """What a run gave.

    Attributes:
        epochs: one entry per epoch: epoch, sigma, train_loss, train_accuracy, valid_accuracy, seconds, and how many of
            these were spent waiting for data.
        accuracy: on the test set, by the rule that chose the epoch: "last epoch" and the task's.
        best_epoch: chosen by validation among the epochs after sigma stopped shrinking, or by the test set among all.
        parameters: trainable, delays included.
        peak_memory_mb: of the process, or of the GPU.
        spikes: of a neuron in each hidden layer, the mean number per test recording after the last epoch.
        example: (time, channel) of each input event of the first test recording, and of each spike that it causes in
            the hidden layers after the last epoch, int64 (2, E) each.
        delays: per layer with delays, before and after training, in steps; (O, I, N) with NaN where there is no
            synapse, or (C,).
        weights: per layer, after training, (O, I) or (O, I, N); zero where there is no synapse.
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
    weights: list[Tensor] = field(default_factory=list)
    state: dict[str, Tensor] = field(default_factory=dict)


def train(
    config: RunConfig,
    task: Task,
    *,
    accelerator: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    on_epoch: OnEpoch | None = None,
    checkpoint: Path | None = None,
) -> Outcome:
    """Train the network that `config` describes and test it once, at the end.

    On several devices a process for each takes a part of every batch: the global batch, dropout, batch norm and
    accuracies are those of one device, up to rounding.

    Args:
        config: the run.
        task: its data.
        accelerator, devices, nodes: as Lightning takes them.
        on_epoch: called with each epoch's entry, those of before an interruption included.
        checkpoint: file to write after every epoch, and to go on from if it is there. A run that was interrupted at any
            point ends with the numbers of one that was not: every epoch draws from a seed of its own.

    Raises:
        RunError: the checkpoint is of another configuration, or damaged.
    """
    with _quiet():
        lightning.seed_everything(config.seed, verbose=False)
        network = build_network(config, task)
        outcome = Outcome(parameters=network.trainable())
        initial = _delays(network)
        module = _Training(network, config, outcome, initial, on_epoch, every_epoch=task.rule == "best on test")
        trainer = lightning.Trainer(
            **_devices(accelerator, devices, nodes),
            max_epochs=config.epochs,
            logger=False,
            enable_checkpointing=checkpoint is not None,
            callbacks=[] if checkpoint is None else [_AfterEveryEpoch(checkpoint)],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        valid, test = evaluation_loader(task.valid), evaluation_loader(task.test)
        with PeakMemory() as peak:
            trainer.fit(
                module,
                training_loader(_augmented(task.train, config), config.batch_size, config.seed),
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
    outcome.delays = list(zip(initial, _delays(network), strict=True))
    outcome.weights = [layer.weights_now() for layer in network.layers]
    outcome.state = {name: value.cpu() for name, value in final.items()}
    return outcome


@torch.no_grad()
def _activity(network: DelayNetwork, frames: Frames) -> tuple[list[float], list[Tensor]]:
    """(spikes per neuron and recording in each hidden layer, where they are in the first recording)."""
    device = next(network.parameters()).device
    total, example = torch.zeros(len(network.neurons), dtype=torch.float64), []
    for start in range(0, len(frames), EVALUATION_BATCH):
        x, _ = frames.batch(range(start, min(start + EVALUATION_BATCH, len(frames))))
        hidden = network.activity(x.to(device))[:-1]
        total += torch.tensor([float(spikes.sum()) / spikes.shape[2] for spikes in hidden], dtype=torch.float64)
        if start == 0:
            example = [values[:, 0].nonzero().t().cpu() for values in (x, *hidden)]
    return (total / len(frames)).tolist(), example


def check_devices(accelerator: str, devices: int = 1, nodes: int = 1) -> None:
    """Raise ArgumentError unless Lightning finds these devices here."""
    try:
        with _quiet():
            chosen = _devices(accelerator, devices, nodes)
            trainer = lightning.Trainer(**chosen, logger=False, enable_checkpointing=False)
            if isinstance(trainer.strategy, DDPStrategy) and trainer.strategy.cluster_environment is not None:
                trainer.strategy.cluster_environment.validate_settings(num_devices=devices, num_nodes=nodes)
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        expected = "devices that are there (cpu, gpu, auto, ...), as many as the launcher of the processes says"
        got = f"{accelerator!r}, devices={devices}, nodes={nodes}"
        raise ArgumentError("accelerator", expected, got, str(error)) from error


def _devices(accelerator: str, devices: int, nodes: int) -> dict[str, Any]:
    """Arguments of a Trainer."""
    chosen: dict[str, Any] = {"accelerator": accelerator, "devices": devices, "num_nodes": nodes}
    if devices * nodes > 1:
        # Batches are shared out by our own sampler, and batch norm's averages are the same everywhere by themselves.
        chosen |= {"strategy": DDPStrategy(broadcast_buffers=False), "use_distributed_sampler": False}
    return chosen


def _augmented(frames: Frames, config: RunConfig) -> Frames | Augmented:
    changes = {"time_mask": config.time_mask, "channel_mask": config.channel_mask, "cutmix": config.cutmix}
    return Augmented(frames, **changes, seed=config.seed) if any(changes.values()) else frames  # type: ignore[arg-type]


def build_network(config: RunConfig, task: Task) -> DelayNetwork:
    """The untrained network of a run."""
    return DelayNetwork(
        (task.channels, *config.hidden, task.classes),
        plugins.toolkit(config.backend),
        delays=config.delays,
        max_delay=config.max_delay,
        taps=config.taps,
        fan_in=config.fan_in,
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
        annealed = config.delays in ANNEALED
        self.sigma = SigmaSchedule(network, config.epochs, until=config.sigma_until) if annealed else None
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
        torch.manual_seed(seed_of(self.config.seed, self.current_epoch))
        self._start_counting()
        self._start = self._waiting_since = time.perf_counter()
        self._waited = 0.0

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        self._waited += time.perf_counter() - self._waiting_since

    def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
        self._waiting_since = time.perf_counter()

    def training_step(self, batch: tuple[Tensor, Tensor, int], index: int) -> None:
        x, y, total = batch
        self.network.dropout.total = total
        scores = class_scores(self.network(x))
        # Softmax twice, as in the paper. The mean over the batch of all processes, whose gradients DDP averages.
        loss = nn.functional.cross_entropy(scores, y, reduction="sum") * (world() / total)
        optimizers = _listed(self.optimizers())
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        self._loss += loss.detach() * (total / world())
        self._count(scores, y if y.dim() == 1 else y.argmax(-1))

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
            "waited": self._waited,
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
        self._train_accuracy = self._counted()
        self._train_loss = float(summed(self._loss)) / self._total
        self._seconds = time.perf_counter() - self._start
        self._start_counting()

    def validation_step(self, batch: tuple[Tensor, Tensor, int], index: int) -> None:
        x, y, _ = batch
        self._count(class_scores(self.network(x)), y)

    def on_validation_epoch_end(self) -> None:
        self.accuracy = self._counted()

    def on_test_epoch_start(self) -> None:
        self._start_counting()

    def test_step(self, batch: tuple[Tensor, Tensor, int], index: int) -> None:
        self.validation_step(batch, index)

    def on_test_epoch_end(self) -> None:
        self.accuracy = self._counted()

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

    def _counted(self) -> float:
        """The part of what all processes saw that was right."""
        self._total = int(summed(torch.tensor(self._seen, device=self._hits.device)))
        return int(summed(self._hits)) / self._total


class _AfterEveryEpoch(Checkpoint):
    """Writes a checkpoint, whole or not at all, when all else of an epoch is done."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        trainer.save_checkpoint(temporary)  # by the first process, after all have come so far
        if trainer.is_global_zero:
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


def _delays(network: DelayNetwork) -> list[Tensor]:
    found = (synapse.delays_now() for synapse in network.layers)
    return [delays for delays in found if delays is not None]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice on workers and accelerators is not the user's concern here."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
