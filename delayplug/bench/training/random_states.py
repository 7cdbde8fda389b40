"""The state of every random generator that a training may draw from: Python's, numpy's, torch's on each device."""

import random
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ..processes import world


class RandomStates(TypedDict):
    """The states of one process, of tensors and plain numbers: a checkpoint is read without unpickling anything else.

    Keys:
        python: version and words of Python's Mersenne twister, and the second half of its last pair of Gaussians.
        numpy: words, position, and the same pair's half, of numpy's global one.
        torch: of the CPU.
        cuda: of each GPU.
    """

    python: tuple[int, list[int], float | None]
    numpy: tuple[list[int], int, int, float]
    torch: Tensor
    cuda: list[Tensor]


def random_states() -> RandomStates:
    """The states now."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": (version, list(words), gauss),
        "numpy": (np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: RandomStates) -> None:
    """Draw on from these states. GPUs that there are no states of keep theirs, so that a run may change machines."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state(("MT19937", np.array(keys, np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"].cpu())  # wherever the checkpoint was read to
    if torch.cuda.is_available():
        for device, state in zip(range(torch.cuda.device_count()), states["cuda"], strict=False):
            torch.cuda.set_rng_state(state.cpu(), device)


def states_of_all() -> list[RandomStates]:
    """The states of all processes of a run, by rank. All of them call this."""
    states: list[RandomStates | None] = [random_states()]
    if world() > 1:
        states = [None] * world()
        dist.all_gather_object(states, random_states())
    return [each for each in states if each is not None]


def set_own_states(states: Sequence[RandomStates]) -> None:
    """Set those of this process, unless the run had fewer processes before."""
    rank = dist.get_rank() if world() > 1 else 0
    if rank < len(states):
        set_random_states(states[rank])
