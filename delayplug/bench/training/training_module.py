"""The training of one network as Lightning runs it: the paper's optimisers, schedules and loss."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..._extras import extra
from ...errors import RunError
from ...learning.captured import CapturedStep
from ...learning.schedules import ScheduleState, SigmaSchedule, parameter_groups
from ..config import RunConfig
from ..model.network import DelayNetwork, class_scores
from ..processes import check_same_everywhere, summed, world
from ..task import LAST
from ..variants import anneals
from .accelerators import adopt_ranks
from .batches import Batch, seed_of
from .outcome import Epoch, OnEpoch
from .random_states import RandomStates, set_own_states, states_of_all

with extra("bench", "the benchmark"):
    import lightning
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler


@dataclass
class Progress:
    """What a run has so far: the part of a checkpoint that Lightning does not write by itself.

    Attributes:
        config: of the run.
        epochs: those that are done.
        best_epoch, best_accuracy, best_state: the best of them, its validation accuracy and the state dict after it.
        initial: delays of each layer before training.
        sigma: state of the schedule; None where sigma does not shrink.
        checksums: of the data.
        random: states of the random generators, after the last of the epochs, of each process.
    """

    config: dict[str, Any]
    initial: list[Tensor]
    checksums: dict[str, str]
    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best_state: dict[str, Tensor] = field(default_factory=dict)
    sigma: ScheduleState | None = None
    random: list[RandomStates] = field(default_factory=list)


class TrainingModule(lightning.LightningModule):
    """Two optimisers (weights: Adam with OneCycle; delays: Adam with cosine), stepped by hand, scheduled per epoch.

    The constants of adaptive neurons use the first optimizer with a separate rate, and are clamped to their bounds.

    Args:
        network: to train.
        config: of the run.
        checksums: of its data.
        on_epoch: called with each epoch.
        rule: how an epoch is chosen: "best on validation", among those after sigma stopped shrinking; "best on test",
            among all; or "last epoch", where none is chosen.
        graph: run the steps as CUDA graphs where they can be; optimizers step outside of them, whose rates and first
            beta are other ones in every epoch.

    Attributes:
        progress: epochs and the best of them; those of the checkpoint after a run was interrupted.
        accuracy: of the last validation or test.
        graph: whether the steps of training ran as CUDA graphs: "yes", or "no", perhaps with the reason.
    """

    def __init__(
        self,
        network: DelayNetwork,
        config: RunConfig,
        checksums: Mapping[str, str],
        on_epoch: OnEpoch | None,
        *,
        rule: str = "best on validation",
        graph: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network, self.config, self.on_epoch, self.rule = network, config, on_epoch, rule
        annealed = anneals(config.delays, config.recurrent)
        self.sigma = SigmaSchedule(network, config.epochs, until=config.sigma_until) if annealed else None
        self.progress = Progress(config.to_json(), network.delays_now(), dict(checksums))
        self.accuracy, self.graph, self._captures = 0.0, "no", graph
        self._generator = torch.Generator()
        self._loss, self._hits = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        self._learn: Callable[..., None] = self._learn_from
        self._judge: Callable[..., None] = self._judge_by
        self._training = False
        self._start_counting()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        config = self.config
        groups = parameter_groups(self.network, config.lr, config.delay_lr, config.weight_decay)
        constants = [parameter for layer in self.network.adaptive for parameter in layer.parameters()]
        groups = _with_neuron_group(groups, constants, config.neuron_lr)
        fused = True if _device(self.network).type == "cuda" else None  # None: torch's choice
        weights = torch.optim.Adam([group for group in groups if group["name"] != "delays"], fused=fused)
        rates = [group["lr"] for group in weights.param_groups]
        one_cycle = torch.optim.lr_scheduler.OneCycleLR(weights, max_lr=rates, total_steps=config.epochs)
        delays = [group for group in groups if group["name"] == "delays"]
        if not delays:
            return [weights], [one_cycle]
        positions = torch.optim.Adam(delays, fused=fused)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(positions, T_max=config.epochs)
        return [weights, positions], [one_cycle, cosine]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.sigma is not None:
            self.progress.sigma = self.sigma.state_dict()
        self.progress.random = states_of_all()
        checkpoint["delayplug"] = vars(self.progress)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.progress = Progress(**checkpoint["delayplug"])
        if self.sigma is not None and self.progress.sigma is not None:
            self.sigma.load_state_dict(self.progress.sigma)
        if self.on_epoch is not None:
            for entry in self.progress.epochs:
                self.on_epoch(entry)

    def configure_callbacks(self) -> list[Callback]:
        # The one hook between the start of the other processes and the wait for them.
        adopt_ranks(self.trainer)
        return []

    def on_fit_start(self) -> None:
        check_same_everywhere(self.progress.checksums, "recordings")
        self._generator = torch.Generator(_device(self.network))
        self._start_counting()
        if self._captures and world() == 1:
            self._learn = CapturedStep(self._learn_from, self.network, state=(self._loss, self._hits))
            self._judge = CapturedStep(self._judge_by, self.network, state=(self._hits,))

    def on_train_end(self) -> None:
        # The network is about to leave the device, and with it the tensors of which recordings know the addresses.
        steps = [step for step in (self._learn, self._judge) if isinstance(step, CapturedStep)]
        if steps:
            reason = next((step.reason for step in steps if step.reason), "")
            validated = bool(self.progress.epochs) and self.progress.epochs[-1]["valid_accuracy"] is not None
            used = steps if validated else [step for step in steps if step is not self._judge]
            self.graph = f"no: {reason}" if reason else "yes" if all(step.captured for step in used) else "no"
        for step in steps:
            step.clear()
        self._learn, self._judge = self._learn_from, self._judge_by

    def on_train_start(self) -> None:
        if self.progress.random:  # after whatever the preparations drew
            set_own_states(self.progress.random)

    def on_train_epoch_start(self) -> None:
        # Dropout of an epoch does not depend on whether those before it were made by the same process.
        seed = seed_of(self.config.seed, self.current_epoch)
        torch.manual_seed(seed)  # for toolkits that draw something
        self._generator.manual_seed(seed)
        self._start_counting()
        self._training = True
        # Lightning counts epochs from the first one, and may leave out the last.
        done, every = self.current_epoch + 1, self.config.validate_every
        due = done % every == 0 or done == self.config.epochs
        self.trainer.check_val_every_n_epoch = 1 if due else self.config.epochs + 1
        self._start = self._waiting_since = time.perf_counter()
        self._waited = 0.0

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        self._waited += time.perf_counter() - self._waiting_since

    def on_train_batch_end(self, outputs: STEP_OUTPUT, batch: Batch, index: int) -> None:
        self._waiting_since = time.perf_counter()

    def training_step(self, batch: Batch, index: int) -> None:
        x, y, total = batch
        self.network.dropout.total = total
        self._learn(x, y, *self.network.draw_masks(len(y), self._generator))
        for optimizer in _listed(self.optimizers()):
            optimizer.step()
        for layer in self.network.adaptive:
            layer.clamp_()
        self._seen += len(y)

    def _learn_from(self, x: Tensor, y: Tensor, *masks: Tensor) -> None:
        """Gradients, and loss and hits added to those of the epoch; on a GPU it may run as a CUDA graph."""
        self.network.zero_grad()
        total = self.network.dropout.total or len(y)  # of all processes; with a graph there is one
        scores = class_scores(self.network(x, masks), self.config.readout)
        # Softmax twice, as in the paper. The mean over the batch of all processes, whose gradients DDP averages.
        loss = nn.functional.cross_entropy(scores, y, reduction="sum") * (world() / total)
        self.manual_backward(loss)
        self._loss.add_(loss.detach(), alpha=total / world())
        self._count(scores, y if y.dim() == 1 else y.argmax(-1))

    def on_train_epoch_end(self) -> None:
        # If Lightning validated this epoch, it did so before this hook, and the start of it called `_end_training`.
        validated = not self._training
        self._end_training()
        for scheduler in _listed(self.lr_schedulers()):
            scheduler.step()
        entry: Epoch = {
            "epoch": self.current_epoch + 1,
            "sigma": None if self.sigma is None else self.sigma.after(self.sigma.epoch)[0],
            "train_loss": self._train_loss,
            "train_accuracy": self._train_accuracy,
            "valid_accuracy": self.accuracy if validated else None,
            "seconds": self._seconds,
            "waited": self._waited,
        }
        if self.sigma is not None:
            self.sigma.step()
        self._choose(entry)
        self.progress.epochs.append(entry)
        if self.on_epoch is not None:
            self.on_epoch(entry)

    def _choose(self, entry: Epoch) -> None:
        accuracy = entry["valid_accuracy"]
        if self.rule == LAST:
            self.progress.best_epoch = entry["epoch"]
        if self.rule == LAST or accuracy is None:
            return
        # While sigma is wide, the network with rounded delays is another one than the network being trained.
        settled = self.sigma is None or entry["epoch"] > self.sigma.length or entry["epoch"] == self.config.epochs
        if (settled or self.rule == "best on test") and accuracy >= self.progress.best_accuracy:
            self.progress.best_epoch, self.progress.best_accuracy = entry["epoch"], accuracy
            self.progress.best_state = {name: value.clone() for name, value in self.network.state_dict().items()}

    def on_validation_epoch_start(self) -> None:
        self._end_training()

    def _end_training(self) -> None:
        """Record times and hits at the end of an epoch's training; further calls have no effect."""
        if not self._training:
            return
        self._training = False
        self._train_accuracy = self._counted()
        self._train_loss = float(summed(self._loss)) / self._total
        self._seconds = time.perf_counter() - self._start
        self._check_finite()
        self._start_counting()

    @torch.no_grad()
    def _check_finite(self) -> None:
        """Raise RunError if training diverged. The loss alone may stay finite: neurons with NaN as input are silent."""
        largest = torch.stack(torch._foreach_norm([p.detach() for p in self.network.parameters()], math.inf)).max()
        if not math.isfinite(self._train_loss + float(largest)):
            epoch, advice = self.current_epoch + 1, "Take a smaller --lr"
            raise RunError(f"{self.config.name} diverged in epoch {epoch}: loss or weights are not finite. {advice}")

    def validation_step(self, batch: Batch, index: int) -> None:
        x, y, _ = batch
        self._judge(x, y)
        self._seen += len(y)

    def _judge_by(self, x: Tensor, y: Tensor) -> None:
        self._count(class_scores(self.network(x), self.config.readout), y)

    def on_validation_epoch_end(self) -> None:
        self.accuracy = self._counted()

    def on_test_epoch_start(self) -> None:
        self._start_counting()

    test_step, on_test_epoch_end = validation_step, on_validation_epoch_end

    def _start_counting(self) -> None:
        # Where the network is: to ask for a number at every step would wait for the device. In place while it stays
        # there, since recordings know the addresses.
        device = _device(self.network)
        if self._loss.device != device:
            self._loss, self._hits = self._loss.to(device), self._hits.to(device)
        self._loss.zero_()
        self._hits.zero_()
        self._seen = 0

    def _count(self, scores: Tensor, y: Tensor) -> None:
        # Counted, not averaged over batches: the accuracy does not depend on how the data was cut.
        self._hits += (scores.argmax(-1) == y).sum()

    def _counted(self) -> float:
        """The accuracy over the recordings of all processes since counting started."""
        self._total = int(summed(torch.tensor(self._seen, device=self._hits.device)))
        return int(summed(self._hits)) / self._total


def _with_neuron_group(groups: list[dict[str, Any]], parameters: list[nn.Parameter], lr: float) -> list[dict[str, Any]]:
    """Move parameters into a separate group "neurons", with another learning rate and without weight decay."""
    if not parameters:
        return groups
    moved = {id(parameter) for parameter in parameters}
    others = [{**group, "params": [p for p in group["params"] if id(p) not in moved]} for group in groups]
    neurons = {"name": "neurons", "params": parameters, "lr": lr, "weight_decay": 0.0}
    return [*(group for group in others if group["params"]), neurons]


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _listed(value: Any) -> list[Any]:
    """Lightning gives a list of optimizers or schedulers only where there are several."""
    return value if isinstance(value, list) else [value]
