"""Trainings with Lightning: sigma in each epoch, in checkpoints, and a log of the delays."""

import copy
import pickle
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import delayplug
from delayplug import ArgumentError, DelayCallback, ExtraMissingError, LearnableDelay, SigmaSchedule

lightning = pytest.importorskip("lightning")
callbacks = pytest.importorskip("lightning.pytorch.callbacks")

pytestmark = pytest.mark.filterwarnings("ignore")


class Module(lightning.LightningModule):
    def __init__(self, **options) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = LearnableDelay(3, 2, max_delay=8, **options)
        self.widths: list[float] = []

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        if self.layer.sigma is not None:
            self.widths.append(self.layer.sigma.mean().item())
        return self.layer(batch).square().mean()

    def validation_step(self, batch: Tensor, index: int) -> None:
        self.layer(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(delayplug.parameter_groups(self, lr=1e-3))


def loader():
    return torch.utils.data.DataLoader(torch.rand(2, 5, 2, 3), batch_size=None)


def trainer(folder: Path, epochs: int, *more, **options):
    return lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[*more],
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({"enable_checkpointing": False} | options),
    )


EXPECTED = [SigmaSchedule(LearnableDelay(3, 2, max_delay=8), epochs=20).after(epoch)[0] for epoch in range(9)]


def fit(folder: Path, epochs: int, *more, module: Module | None = None, checkpoint: str | None = None, **options):
    module = Module() if module is None else module
    run = trainer(folder, epochs, *more, **options)
    run.fit(module, loader(), loader(), ckpt_path=checkpoint)
    return module, run


def test_the_widths_of_each_epoch(tmp_path: Path) -> None:
    module, _ = fit(tmp_path, 7, DelayCallback(epochs=20))
    expected = [width for width in EXPECTED[:7] for _ in range(2)]
    assert module.widths == pytest.approx(expected)
    assert module.layer.sigma.item() == pytest.approx(EXPECTED[7])


@pytest.mark.parametrize("saved", [{}, {"save_on_train_epoch_end": True}, {"every_n_train_steps": 3}], ids=str)
def test_a_training_goes_on_from_its_checkpoint(tmp_path: Path, saved: dict) -> None:
    """Saved after the validation, at the end of an epoch, and within one."""
    saving = callbacks.ModelCheckpoint(tmp_path, save_last=True, **saved)
    fit(tmp_path, 3, DelayCallback(epochs=20), saving, enable_checkpointing=True)
    module, run = fit(tmp_path, 6, DelayCallback(epochs=20), checkpoint=saving.last_model_path)
    began = run.global_step - len(module.widths)  # steps that the checkpoint had
    assert 3 <= began <= 6
    assert module.widths == pytest.approx([EXPECTED[step // 2] for step in range(began, 12)])
    assert module.layer.sigma.item() == pytest.approx(EXPECTED[6])


def test_a_checkpoint_without_the_callback_is_told(tmp_path: Path) -> None:
    saving = callbacks.ModelCheckpoint(tmp_path, save_last=True)
    fit(tmp_path, 1, saving, enable_checkpointing=True)
    with pytest.warns(UserWarning, match="saved without DelayCallback"):
        fit(tmp_path, 2, DelayCallback(epochs=20), checkpoint=saving.last_model_path)


def test_the_length_is_that_of_the_trainer(tmp_path: Path) -> None:
    callback = DelayCallback()
    fit(tmp_path, 4, callback)
    assert callback.schedule is not None
    assert callback.schedule.length == 1


class Renamed(DelayCallback):
    pass


@pytest.mark.parametrize("kind", [DelayCallback, Renamed])
def test_a_callback_is_one_of_lightning(kind: type[DelayCallback]) -> None:
    callback = kind(epochs=3, log=False)
    assert isinstance(callback, callbacks.Callback)
    assert isinstance(callback, kind)
    for other in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        assert type(other) is type(callback)
        assert vars(other) == vars(callback)


def test_without_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning.pytorch.callbacks", None)

    class Fresh(DelayCallback):
        pass

    with pytest.raises(ExtraMissingError, match="needs lightning"):
        Fresh()


def test_the_log(tmp_path: Path) -> None:
    module = Module(init=8.0)
    _, run = fit(tmp_path, 1, DelayCallback(), module=module)
    logged = {key: value.item() for key, value in run.callback_metrics.items()}
    delays = module.layer.delays.detach()
    assert logged["delays/layer/mean"] == pytest.approx(delays.mean().item())
    assert logged["delays/layer/std"] == pytest.approx(delays.std(correction=0).item(), abs=1e-6)
    assert logged["delays/layer/at_bounds"] == pytest.approx((delays >= 8).float().mean().item())
    assert logged["delays/layer/sigma"] == pytest.approx(EXPECTED[0])
    _, run = fit(tmp_path, 1, DelayCallback(log=False))
    assert not run.callback_metrics


@pytest.mark.parametrize("options", [{"interpolation": "linear"}, {"learn_sigma": True}], ids=str)
def test_widths_that_are_not_annealed(tmp_path: Path, options: dict) -> None:
    callback = DelayCallback()
    module, run = fit(tmp_path, 2, callback, module=Module(**options))
    assert callback.schedule is None
    assert callback.state_dict() == {}
    assert ("delays/layer/sigma" in run.callback_metrics) == (module.layer.sigma is not None)


def test_a_module_without_delays(tmp_path: Path) -> None:
    module = Module()
    module.layer = nn.Linear(3, 2)
    module.layer.sigma = None
    with pytest.raises(ArgumentError, match="a model with delays"):
        fit(tmp_path, 1, DelayCallback(), module=module)


def test_a_schedule_among_the_optimizers_says_how(tmp_path: Path) -> None:
    class Returned(Module):
        def configure_optimizers(self):
            return [super().configure_optimizers()], [SigmaSchedule(self, epochs=20)]

    with pytest.raises(AttributeError, match="DelayCallback"):
        fit(tmp_path, 1, module=Returned())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not hasattr(SigmaSchedule(Module().layer, epochs=2), "optimizer")
