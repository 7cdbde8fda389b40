"""The device of the tests: the pretended one refuses what a GPU refuses, and the package runs on it."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from delayplug import LearnableDelay
from tests import pretended
from tests.devices import DEVICE, NAME, ROOT, waits

on_pretended = pytest.mark.skipif(NAME != pretended.NAME, reason=f"needs DELAYPLUG_TEST_DEVICE={pretended.NAME}")

# What has failed on a GPU, and a few tests of each room.
PARTS = [
    "tests/test_devices.py",
    "tests/layers/test_waits.py",
    "tests/layers/engines/test_channels.py::test_nothing_comes_of_an_empty_batch",
    "tests/neurons/test_cell.py::test_another_toolkit_builds_it_or_says_why_not",
    "tests/surgery/test_synchronisations.py",
    "tests/surgery/test_underway.py::test_a_state_that_was_saved_on_another_device",
    "tests/learning/test_history.py",
    "tests/deploy/test_quantise.py",
    "tests/exchange/test_extras.py::test_frozen_networks_are_exported",
    "tests/exchange/test_to_module.py",
]


@pytest.mark.slow
@pytest.mark.skipif(NAME != "cpu" or not pretended.is_possible(), reason="for machines without a GPU, and a new torch")
def test_the_package_runs_on_a_device() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *PARTS]
    environment = {**os.environ, "DELAYPLUG_TEST_DEVICE": pretended.NAME}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:]
    assert " passed" in run.stdout


@on_pretended
@pytest.mark.parametrize(
    "mix",
    [
        lambda x, cpu: x + cpu,
        lambda x, cpu: torch.cat((x, cpu)),
        lambda x, cpu: torch.equal(x, cpu),
        lambda x, cpu: x @ cpu,
        lambda x, cpu: x.index_add_(0, torch.tensor([0, 1, 2], device="cpu"), x.clone()),
        lambda x, cpu: cpu[torch.tensor([1])],
        lambda x, cpu: cpu.add_(x.sum()),
    ],
)
def test_tensors_of_two_devices_do_not_mix(mix: object) -> None:
    assert callable(mix)
    with pytest.raises(RuntimeError, match="same device"):
        mix(torch.ones(3), torch.ones(3, device="cpu"))


@on_pretended
def test_what_a_gpu_takes_from_the_cpu() -> None:
    x, one = torch.ones(3), torch.tensor(1.0, device="cpu")
    assert (x + one).device == torch.where(x > 0, x, one).device == DEVICE
    assert x[torch.tensor([0, 2], device="cpu")].device == DEVICE
    assert x.copy_(torch.zeros(3, device="cpu")).tolist() == [0, 0, 0]
    with pytest.raises(TypeError, match=r"cpu\(\)"):
        x.numpy()


@pytest.mark.skipif(NAME == "cpu", reason="a CPU is not waited for")
@pytest.mark.parametrize(
    "read",
    [lambda x: x.sum().item(), lambda x: x.nonzero(), lambda x: x[x > 0], lambda x: x.cpu(), lambda x: bool(x[0])],
)
def test_waits_are_counted(read: object) -> None:
    assert callable(read)
    x = torch.rand(4)
    assert waits(lambda: x.add(1).sum()) == 0
    assert waits(lambda: read(x)) >= 1


def test_what_a_test_makes_is_on_the_device() -> None:
    made: list[Tensor] = [torch.zeros(2), torch.tensor([1.0]), torch.rand(3), torch.nn.Linear(2, 3).weight]
    made += [LearnableDelay(3, 2, max_delay=4).delays, torch.rand(2, generator=torch.Generator())]
    assert {tensor.device.type for tensor in made} == {DEVICE.type}
    assert torch.zeros(2, device="cpu").device.type == "cpu"


@pytest.mark.skipif(NAME == "cpu", reason="about other devices")
def test_random_numbers_are_those_of_the_cpu() -> None:
    torch.manual_seed(0)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert drawn.tolist() == torch.rand(3, device="cpu").tolist()
