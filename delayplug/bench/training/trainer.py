"""Training one network, on Lightning, and testing it."""

import copy
import warnings
from pathlib import Path

import torch
from torch import Tensor

from ..._extras import extra
from ...data import Augmented, Frames
from ...toolkits import plugins
from ..config import RunConfig
from ..hardware import device_name, matmul_precision
from ..model.network import DelayNetwork
from ..resources import Resources
from ..task import LAST, Task
from .accelerators import fitting, make_trainer, quiet
from .batches import EVALUATION_BATCH, Batches, InOrder, Shuffled, evaluation_loader, training_loader
from .checkpoints import CheckpointAfterEpochs
from .outcome import Inference, OnEpoch, Outcome
from .peak_memory import PeakMemory
from .resident import ResidentBatches, ResidentFrames, fits
from .training_module import TrainingModule

with extra("bench", "the benchmark"):
    import lightning


def train(
    config: RunConfig,
    task: Task,
    resources: Resources,
    *,
    on_epoch: OnEpoch | None = None,
    checkpoint: Path | None = None,
) -> Outcome:
    """Train the network that `config` describes and test it once, at the end.

    On several devices a process for each takes a part of every batch: the global batch, dropout, batch norm and
    accuracies are those of one device, up to rounding.

    Args:
        config: the run.
        task: its data.
        resources: its devices.
        on_epoch: called with each epoch, those before an interruption included.
        checkpoint: file to write after epochs (see `CheckpointAfterEpochs`), and to resume from if it exists;
            `read_checkpoint` tells whether it is this run's. A run that was interrupted at any point ends with the
            numbers of one that was not: every epoch draws from a seed of its own, and the checkpoint has the states
            of all random generators.

    Raises:
        RunError: processes of the run have other data, or a file cannot be written.
    """
    with quiet(), matmul_precision(config.precision):
        lightning.seed_everything(config.seed, verbose=False)
        network = build_network(config, task)
        outcome = Outcome(parameters=network.trainable())
        module = TrainingModule(network, config, task.checksums, on_epoch, rule=task.rule, graph=resources.graph)
        callbacks = [] if checkpoint is None else [CheckpointAfterEpochs(checkpoint)]
        trainer = make_trainer(resources, epochs=config.epochs, callbacks=callbacks)
        training, valid, test = batches_of(task, config, trainer.strategy.root_device)
        with PeakMemory() as peak:
            with fitting():
                trainer.fit(
                    module,
                    training,
                    valid,
                    ckpt_path=checkpoint if checkpoint is not None and checkpoint.exists() else None,
                    weights_only=True,
                )
            final = copy.deepcopy(network.state_dict())
            states = {LAST: final} if task.rule == LAST else {LAST: final, task.rule: module.progress.best_state}
            for rule, state in states.items():
                network.load_state_dict(state)
                trainer.test(module, test, verbose=False)
                outcome.accuracy[rule] = module.accuracy
        network.load_state_dict(final)
        device = trainer.strategy.root_device  # Lightning takes the network off it
        outcome.spikes, outcome.inference, outcome.example = _activity(network.to(device).eval(), task.test)
        outcome.device, outcome.neurons = device_name(device), network.implementation(device)
        outcome.peak_memory_mb = peak.megabytes
    outcome.graph = module.graph
    if ":" in module.graph:
        warnings.warn(f"{config.name}: steps did not run as CUDA graphs ({module.graph})", stacklevel=2)
    outcome.epochs, outcome.best_epoch = module.progress.epochs, module.progress.best_epoch
    outcome.delays = {"before": module.progress.initial, "after": network.delays_now()}
    outcome.weights = [layer.weights_now() for layer in network.layers]
    outcome.state = {name: value.cpu() for name, value in final.items()}
    return outcome


def batches_of(
    task: Task, config: RunConfig, device: torch.device, *, resident: bool | None = None
) -> tuple[Batches, Batches | None, Batches]:
    """The batches of training, validation (None without validation) and test.

    Args:
        task: the recordings.
        config: of the run: its augmentation, batch size and seed.
        device: that it is trained on.
        resident: gather batches on the device, where all recordings are; None: if it is a GPU and they take a small
            share of its memory. The numbers are the same.
    """
    training = _augmented(task.train, config)
    parts = [part for part in (task.train, task.valid, task.test) if part is not None]
    if not (fits(parts, device) if resident is None else resident):
        loader = training_loader(training, config.batch_size, config.seed)
        return loader, None if task.valid is None else evaluation_loader(task.valid), evaluation_loader(task.test)
    frames: list[ResidentFrames] = []
    for part in parts:
        frames.append(ResidentFrames(part, device, frames))
    augmented = training if isinstance(training, Augmented) else None
    shuffled = Shuffled(training, config.batch_size, config.seed)
    *valid, test = (ResidentBatches(part, InOrder(len(part.frames))) for part in frames[1:])
    return ResidentBatches(frames[0], shuffled, augmented), valid[0] if valid else None, test


@torch.no_grad()
def _activity(network: DelayNetwork, frames: Frames) -> tuple[list[float], Inference, list[Tensor]]:
    """Run a network on recordings and count its activity.

    Returns:
        Mean number of spikes per neuron and recording of each hidden layer; the costs of a recording; and for the first
        recording, (time, channel) of its input events and of the spikes of each hidden layer.
    """
    device = next(network.parameters()).device
    fan_outs = network.fan_outs()
    totals = [torch.zeros_like(fan_out) for fan_out in fan_outs]
    steps, example = list[int](), list[Tensor]()
    for start in range(0, len(frames), EVALUATION_BATCH):
        x, _ = frames.batch(range(start, min(start + EVALUATION_BATCH, len(frames))))
        x = x.to(device)
        *hidden, membrane = network.activity(x)
        for total, values in zip(totals, (x, *hidden), strict=True):
            total += values.count_nonzero((0, 1)).cpu()
        if start == 0:
            steps = [len(values) for values in (*hidden, membrane)]
            example = [values[:, 0].nonzero().t().cpu() for values in (x, *hidden)]
    means = [total.double() / len(frames) for total in totals]
    inference: Inference = {
        "steps": steps,
        "active": [float(mean.sum()) for mean in means],
        "operations": [float(mean @ fan_out.double()) for mean, fan_out in zip(means, fan_outs, strict=True)],
    }
    return [float(mean.mean()) for mean in means[1:]], inference, example


def _augmented(frames: Frames, config: RunConfig) -> Frames | Augmented:
    """What is trained on: without augmentation the frames themselves, which make a batch at once."""
    augmented = Augmented(
        frames,
        time_mask=config.time_mask,
        channel_mask=config.channel_mask,
        cutmix=config.cutmix,
        channel_shift=config.channel_shift,
        blend=config.blend,
        thin=config.thin,
        time_scale=config.time_scale,
        seed=config.seed,
    )
    return augmented if augmented.changes_anything else frames


def build_network(config: RunConfig, task: Task) -> DelayNetwork:
    """The untrained network of a run."""
    return DelayNetwork(
        (task.train.channels, *config.hidden, len(task.train.classes)), plugins.toolkit(config.backend), config
    )
