"""One training step on a part of a batch, in a process of its own: what such a process imports is little, and quick."""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from delayplug import RunError
from delayplug.bench import processes as ranks
from delayplug.bench.model.network import HeldDropout


def in_two(rank: int, port: str, where: str) -> None:
    """One step of a network on this process's half of a batch, with float64 to see through rounding."""
    torch.set_num_threads(1)
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.save(step(ranks.share(5)), Path(where) / f"{rank}.pt")
    ranks.check_same_everywhere({"test": "a"}, "recordings")
    try:
        ranks.check_same_everywhere({"test": str(rank)}, "recordings")
    except RunError as error:
        (Path(where) / f"{rank}.txt").write_text(str(error))
    torch.distributed.destroy_process_group()


def step(part: slice) -> dict[str, Tensor]:
    """Gradients, running averages and output of batch norm and dropout, summed over the processes."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), ranks.SharedBatchNorm(4), nn.Linear(4, 2)).double()
    dropout = HeldDropout(0.4)
    dropout.total = 5
    x = torch.randn(6, 5, 3).double()[:, part]
    hidden = network[1](network[0](x).flatten(0, 1)).view(6, -1, 4)
    network[2](dropout(hidden)).square().sum().backward()
    gradients = {name: ranks.summed(p.grad) for name, p in network.named_parameters()}
    return {**gradients, **dict(network[1].named_buffers()), "hidden": hidden.detach()}
