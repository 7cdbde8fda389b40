"""Lightning's trainer on the devices of a run, without Lightning's advice."""

import contextlib
import logging
import os
import subprocess
import warnings
from collections.abc import Iterator, Sequence

from ..._extras import extra
from ...errors import ArgumentError, did_you_mean
from ..resources import Resources
from ..stopping import PARENT, adopt_rank, handle_signals
from .checkpoints import SealedFileIO

with extra("bench", "the benchmark"):
    import lightning
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.strategies import DDPStrategy

_ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")


def make_trainer(
    resources: Resources, *, epochs: int | None = None, callbacks: Sequence[Callback] = ()
) -> lightning.Trainer:
    """A trainer that logs and shows nothing; checkpoints are written by its callbacks alone.

    Args:
        resources: the devices.
        epochs: how many.
        callbacks: of the training.
    """
    # Batches are shared out by our own sampler, and batch norm's averages are the same everywhere by themselves.
    strategy = DDPStrategy(broadcast_buffers=False) if resources.devices * resources.nodes > 1 else "auto"
    return lightning.Trainer(
        accelerator=resources.accelerator,
        devices=resources.devices,
        num_nodes=resources.nodes,
        strategy=strategy,
        use_distributed_sampler=False,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=bool(callbacks),
        callbacks=[OurSignals(), *callbacks],
        plugins=[SealedFileIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        # In that mode nobody may note that spikes are exact: see `layers.exact`.
        inference_mode=False,
    )


class OurSignals(Callback):
    """Signals are left to `stopping`: Lightning's handler of SIGTERM waits for processes that may wait for it."""

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        handle_signals()

    def on_test_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        handle_signals()


def adopt_ranks(trainer: lightning.Trainer) -> None:
    """Have the processes that Lightning started end with this one, and this one with them.

    Lightning itself watches over those in its list, and would end this process without a word.
    """
    ranks: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
    for rank in ranks:
        adopt_rank(rank)
    ranks.clear()


@contextlib.contextmanager
def fitting() -> Iterator[None]:
    """A training: processes that Lightning starts for it know which one started them."""
    os.environ[PARENT] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[PARENT]


def check_devices(resources: Resources) -> None:
    """Raise ArgumentError unless Lightning has these devices here."""
    try:
        with quiet():
            trainer = make_trainer(resources)
            if isinstance(trainer.strategy, DDPStrategy) and trainer.strategy.cluster_environment is not None:
                trainer.strategy.cluster_environment.validate_settings(resources.devices, resources.nodes)
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        expected = "devices that are there (cpu, gpu, auto, ...), as many as the launcher of the processes says"
        got = f"{resources.accelerator!r}, devices={resources.devices}, nodes={resources.nodes}"
        hint = did_you_mean(resources.accelerator, _ACCELERATORS)
        if resources.accelerator not in _ACCELERATORS:  # Lightning's reason names classes of its own
            raise ArgumentError("accelerator", f"one of {', '.join(_ACCELERATORS)}", got, hint) from error
        raise ArgumentError("accelerator", expected, got, str(error)) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's advice on workers and accelerators, which a user of the benchmark cannot follow."""
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
