"""What joins a delayed layer to the neuron that it feeds."""

import copy
import pickle
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from delayplug.surgery.identity import mark_of
from delayplug.surgery.link import Link
from delayplug.toolkits.plugins import toolkit
from delayplug.toolkits.vocabulary import Turns


class Waiting:
    """The part of a memory that a link sees."""

    def __init__(self, node: nn.Module, link: Link) -> None:
        self.neuron, self.link, self.knows_its_neuron = node, link, True
        self.is_waiting, self.state_names, self.seen = True, ("fatigue",), []

    def before_neuron(self, node: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.seen.append(("before", node))
        return args, kwargs

    def after_neuron(self, node: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        self.seen.append(("after", node))


@pytest.fixture
def link() -> Link:
    return Link(toolkit("spikingjelly"), Turns.TOGETHER)


def test_the_memory_that_delivered_last_is_found_from_the_neuron(link: Link) -> None:
    node, other = neuron.LIFNode(), neuron.LIFNode()
    memory = Waiting(node, link)
    assert link.memory_for(node) is None
    link.delivered(memory)
    assert link.memory_for(node) is memory
    assert link.memory_for(other) is None
    memory.is_waiting = False
    assert link.memory_for(node) is memory  # it is still its neuron
    newer = Waiting(node, link)
    link.delivered(newer)
    assert link.memory_for(node) is newer


def test_the_copy_of_a_layer_meets_its_neuron(link: Link) -> None:
    node = neuron.LIFNode()
    original, copied = Waiting(node, link), Waiting(neuron.LIFNode(), link)
    copied.knows_its_neuron = False
    link.delivered(original)
    original.is_waiting = False
    link.delivered(copied)
    assert link.memory_for(node) is copied
    copied.neuron, copied.knows_its_neuron = node, True
    assert link.memory_for(node) is copied
    original.is_waiting = True
    link.delivered(original)
    assert link.memory_for(node) is original


def test_a_memory_is_not_held(link: Link) -> None:
    node = neuron.LIFNode()
    link.delivered(Waiting(node, link))
    assert link.memory_for(node) is None


def test_hooks_go_to_the_memory(link: Link) -> None:
    node, x = neuron.LIFNode(), torch.zeros(1)
    assert link.before_neuron(node, (x,), {}) is None
    memory = Waiting(node, link)
    link.delivered(memory)
    args, _ = link.before_neuron(node, (x,), {})
    assert args[0] is x
    link.after_neuron(node, (x,), {}, x)
    assert memory.seen == [("before", node), ("after", node)]


def test_a_memory_inside_of_its_neuron_is_found_there() -> None:
    link = Link(toolkit("spikingjelly"), Turns.INSIDE)
    node = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    node[0].delay_memory = SimpleNamespace(link=Link(toolkit("spikingjelly"), Turns.INSIDE))
    assert link.memory_for(node) is None
    node[1].delay_memory = SimpleNamespace(link=link)
    assert link.memory_for(node) is node[1].delay_memory


def test_threads_do_not_see_each_other(link: Link) -> None:
    node = neuron.LIFNode()
    memory, found = Waiting(node, link), []
    link.delivered(memory)
    link.see_fold(node, (torch.zeros(7, 2),), {})

    def look() -> None:
        found.extend([link.memory_for(node), link.folded_steps])

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [None, 1]
    assert link.folded_steps == 7


def test_what_a_reset_leaves_or_returns_is_a_beginning(link: Link) -> None:
    node, memory = neuron.LIFNode(), None
    node.v, node.fatigue, returned = torch.ones(2), torch.ones(2), torch.ones(2)
    link.was_reset(node, [returned])
    assert mark_of(node.v, link).note is None
    assert mark_of(returned, link).note is None
    assert mark_of(node.fatigue, link) is None
    memory = Waiting(node, link)
    link.delivered(memory)
    link.was_reset(node, None)
    assert mark_of(node.fatigue, link).note is None


def test_copies_share_it_and_files_have_their_own(link: Link) -> None:
    assert copy.deepcopy(link) is link
    loaded = pickle.loads(pickle.dumps(link))
    assert loaded is not link
    assert loaded.turns is link.turns
    assert type(loaded.toolkit) is type(link.toolkit)
