"""Delays in a training by Lightning: the annealing of sigma, in checkpoints too, and a log of the delays.

Lightning is imported when a callback is made, and not before.
"""

import warnings
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .._extras import extra
from ..layers.base import DelayLayer
from ..surgery.find import all_delays
from .schedules import ScheduleState, Shape, SigmaSchedule, anneals

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer


class DelayCallback:
    """Narrows sigma once per epoch, keeps that in Lightning's checkpoints, and logs the delays.

    Give it to the trainer, `Trainer(callbacks=[DelayCallback()])`, for a module that has its delays when the training
    begins. The widths of an epoch are those of `SigmaSchedule` after so many epochs, also when a training goes on from
    a checkpoint, whenever that was saved. Models whose widths are learned, or with "linear", are only logged.

    Logged at the end of each epoch, of each layer with delays: "delays/NAME/mean" and "delays/NAME/std", in steps,
    "delays/NAME/at_bounds", the fraction of delays that are 0 or max_delay, and "delays/NAME/sigma", in steps.

    Args:
        epochs: length of the whole training; `max_epochs` of the trainer by default.
        start, end, until, shape: as for `SigmaSchedule`.
        log: whether to log the delays.

    Attributes:
        schedule: the `SigmaSchedule` of the training; None before it, and where no width is annealed.

    What is made is a Lightning `Callback`, too.

    Raises:
        ExtraMissingError: Lightning is not installed.
        ArgumentError: when the training begins: the module has no delays, or the trainer no `max_epochs`.
    """

    def __new__(cls, *args: object, **kwargs: object) -> "DelayCallback":
        return _blank(cls)

    def __reduce__(self) -> tuple[object, ...]:
        # The class with Lightning's is made at run time and cannot be imported by name.
        return _blank, (next(kind for kind in type(self).__mro__ if not vars(kind).get("made_here")),), self.__dict__

    def __init__(
        self,
        epochs: int | None = None,
        *,
        start: float | None = None,
        end: float | None = None,
        until: float = 0.25,
        shape: Shape = "exponential",
        log: bool = True,
    ) -> None:
        super().__init__()
        self.schedule: SigmaSchedule | None = None
        self._epochs, self._start, self._end, self._until, self._shape = epochs, start, end, until, shape
        self._log, self._saved = log, None

    _saved: ScheduleState | None

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Make the schedule; that of the checkpoint, if the training goes on from one."""
        saved, self._saved = self._saved, None
        if not any(anneals(layer) for _, layer in all_delays(pl_module)):
            return
        if saved is None and trainer.ckpt_path is not None:
            warnings.warn(
                f"the checkpoint {trainer.ckpt_path} was saved without DelayCallback: sigma is annealed from the "
                "widths in it, as if they were those of the beginning. DelayCallback(start=...) says what that was",
                stacklevel=2,
            )
        epochs = self._epochs or trainer.max_epochs or 0
        self.schedule = SigmaSchedule(
            pl_module,
            epochs if saved is None else max(1, epochs),
            start=self._start,
            end=self._end,
            until=self._until,
            shape=self._shape,
        )
        if saved is not None:
            self.schedule.load_state_dict(saved)

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "LightningModule", batch: object, batch_idx: int
    ) -> None:
        """Set the widths of this epoch, as the trainer counts: that is right after any checkpoint."""
        # A trainer that goes on from the end of an epoch does not call the hook of the beginning of the next one.
        if self.schedule is not None and self.schedule.epoch != trainer.current_epoch:
            self.schedule.step(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Log the delays, and narrow sigma."""
        if self._log:
            for name, layer in all_delays(pl_module):
                prefix = f"delays/{name}/" if name else "delays/"
                pl_module.log_dict({prefix + key: value for key, value in _summary(layer).items()})
        if self.schedule is not None:
            self.schedule.step(trainer.current_epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """The schedule, for a checkpoint."""
        return {} if self.schedule is None else {"schedule": self.schedule.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint, when the training begins."""
        self._saved = state_dict.get("schedule")


def _summary(layer: DelayLayer) -> dict[str, Tensor]:
    delays = layer.delays.detach().float()
    at_bounds = (delays <= 0) | (delays >= layer.max_delay)
    values = {"mean": delays.mean(), "std": delays.std(correction=0), "at_bounds": at_bounds.float().mean()}
    return values if layer.sigma is None else values | {"sigma": layer.sigma.detach().float().mean()}


def _blank(kind: type[DelayCallback]) -> DelayCallback:
    return object.__new__(_with_hooks(kind))


_made: dict[type[DelayCallback], type[DelayCallback]] = {}


def _with_hooks(kind: type[DelayCallback]) -> type[DelayCallback]:
    """The class that is Lightning's, too: a trainer calls many hooks, of which those are here that do something."""
    with extra("bench", "delayplug.DelayCallback"):
        from lightning.pytorch.callbacks import Callback
    if issubclass(kind, Callback):
        return kind
    if kind not in _made:
        names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "made_here": True}
        _made[kind] = type(kind.__name__, (kind, Callback), names)
    return _made[kind]
