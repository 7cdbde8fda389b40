"""The place of delays that stood by themselves."""

import copy
import pickle

import pytest
import torch

from delayplug.surgery.through import Through


def test_it_gives_its_input() -> None:
    x = torch.rand(3, 4)
    through = Through(4, "reset_delay")
    assert through(x) is x
    assert not through.state_dict()
    for other in (through, copy.deepcopy(through), pickle.loads(pickle.dumps(through))):
        other.reset_delay()
        assert (other.channels, other.is_open) == (4, False)
    for name in ("reset", "delay", "weight", ""):
        with pytest.raises(AttributeError):
            getattr(through, name)
    with pytest.raises(AttributeError):
        Through(4).reset_delay()
