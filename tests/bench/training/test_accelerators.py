"""Devices that a run asks for."""

import logging

import pytest

from delayplug import ArgumentError
from delayplug.bench.resources import Resources
from delayplug.bench.training.accelerators import check_devices, make_trainer, quiet


def test_devices_must_agree_with_who_started_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"NTASKS": "4", "NTASKS_PER_NODE": "4", "JOB_NAME": "x", "NODEID": "0", "PROCID": "0", "LOCALID": "0"}
    for name, value in environment.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr("lightning.fabric.plugins.environments.slurm._is_slurm_interactive_mode", lambda: False)
    with pytest.raises(ArgumentError, match=r"accelerator: expected devices that are there.*devices=2"):
        check_devices(Resources("cpu", devices=2))


def test_unknown_accelerators() -> None:
    with pytest.raises(ArgumentError, match=r"accelerator: expected one of auto, cpu, .* got 'abacus'"):
        check_devices(Resources("abacus"))


def test_trainers_say_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        trainer = make_trainer(Resources("cpu"), epochs=3)
    assert trainer.max_epochs == 3
    assert trainer.num_devices == 1
    assert not trainer.loggers
    assert not trainer.checkpoint_callbacks
    assert capfd.readouterr() == ("", "")


def test_quiet_ends() -> None:
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    with quiet():
        assert logger.level == logging.ERROR
    assert logger.level == level
