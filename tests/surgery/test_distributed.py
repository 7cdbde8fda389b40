"""Delayed models under DistributedDataParallel: two processes learn what one learns from the whole batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.distributed import destroy_process_group, init_process_group
from torch.multiprocessing import spawn
from torch.nn.parallel import DistributedDataParallel

from delayplug import add_delays, parameter_groups
from tests.networks import InitLeaky, jelly, sequence

pytestmark = pytest.mark.slow

MODELS = {"snntorch": InitLeaky, "spikingjelly": lambda: jelly("m")}


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = MODELS[name]()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(4)  # so that the hidden neurons spike
    return add_delays(net, 4, sigma=1.0)


def train(net: Any, x: Tensor) -> None:
    """Three steps on a batch; the loss is a mean over samples, as DistributedDataParallel wants it."""
    optimizer = torch.optim.SGD(parameter_groups(net, lr=0.1, delay_lr=1.0))
    for _ in range(3):
        functional.reset_net(net)
        optimizer.zero_grad()
        net(x).sum((0, 2)).mean().backward()
        optimizer.step()


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for name in MODELS:
        net = make(name)
        train(DistributedDataParallel(net), sequence(batch=8).chunk(2, dim=1)[rank])
        torch.save(net.state_dict(), f"{folder}/{name}{rank}.pt")
    destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the states of each model in two processes; starting those takes longer than all that they do."""
    folder = tmp_path_factory.mktemp("trained")
    spawn(work, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_learn_what_one_does(name: str, trained: Path) -> None:
    one = make(name)
    before = {key: value.clone() for key, value in one.state_dict().items()}
    train(one, sequence(batch=8))
    ranks = [torch.load(trained / f"{name}{rank}.pt") for rank in range(2)]
    for key, value in one.state_dict().items():
        assert torch.equal(ranks[0][key], ranks[1][key]), key
        torch.testing.assert_close(ranks[0][key], value, atol=1e-5, rtol=1e-5)
    learned = [key for key, value in one.state_dict().items() if not torch.equal(value, before[key])]
    assert sum("delays" in key for key in learned) == 2
