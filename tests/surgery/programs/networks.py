"""The networks of the programs, and how the loop over the steps is wrapped."""

from collections.abc import Callable
from typing import Any

import norse.torch as norse
import snntorch
import torch
from snntorch import utils
from spikingjelly.activation_based import base, functional, layer
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from .kinds import KINDS, Kind, call
from .program import ENCODE, FORWARD, FUNCTIONAL, LOOP, OUTER, PAIR, SEQUENTIAL, TWO, Network

FEATURES = 5
MAX_DELAY = 5
START = 0.3


class BoomError(Exception):
    """A call that failed in the middle."""


class Fuse:
    """Raises `BoomError` at the `left`-th pass of the place `where`, if it is lit."""

    where, left = "", 0

    @classmethod
    def tick(cls, where: str) -> None:
        if where == cls.where:
            cls.left -= 1
            if cls.left < 0:
                cls.where = ""
                raise BoomError


# Told by a network that takes two streams in one call which of them comes next, and whether it begins. For the oracle.
told: list[Callable[[int, Any], None]] = []


def _tell(stream: int, before: Any = None) -> None:
    """`before`: the states that the other stream has by now."""
    for listener in told:
        listener(stream, before)


# Told by a network whose batch shrinks within a call of how many rows go on.
shrunk: list[Callable[[int], None]] = []


class Scale(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.875


def _between(spec: Network, jelly: bool) -> nn.Module:
    channels = 2 if spec.conv else FEATURES
    norms = (layer.BatchNorm2d, layer.BatchNorm1d) if jelly else (nn.BatchNorm2d, nn.BatchNorm1d)
    if spec.between == "norm":
        norm = norms[0 if spec.conv else 1](channels)
        with torch.no_grad():
            norm.running_mean.copy_(torch.randint(-2, 3, (channels,)) / 8)
            norm.weight.copy_(torch.randint(8, 16, (channels,)) / 8)
        return norm.eval()
    return {"identity": nn.Identity, "dropout": lambda: nn.Dropout(0.5), "scale": Scale}[spec.between]()


def _weights(spec: Network, jelly: bool) -> nn.Module:
    if spec.conv:
        module = (layer if jelly else nn).Conv2d(2, 2, 3, padding=1, bias=spec.bias)
    else:
        module = (layer if jelly else nn).Linear(FEATURES, FEATURES, bias=spec.bias)
    with torch.no_grad():
        module.weight.copy_(torch.randint(-3, 8, module.weight.shape) / 8)
        if spec.bias:
            module.bias.copy_(torch.randint(-1, 3, module.bias.shape) / 8)
    return module


class Net(nn.Module):
    """Layers and neurons in turns; `one` is a call of each of them, `loop` a sequence."""

    def __init__(self, spec: Network) -> None:
        super().__init__()
        self.spec = spec
        jelly = self.kind.toolkit == "spikingjelly" and not self.kind.own_weights
        for i in range(spec.layers):
            if not self.kind.own_weights:
                self.add_module(f"fc{i}", _weights(spec, jelly))
            if spec.between:
                self.add_module(f"mid{i}", _between(spec, jelly))
            self.add_module(f"n{i}", self.kind.make(FEATURES))
        if spec.start in ("learned", "computed"):
            self.v0 = nn.Parameter(torch.full((2, 1, 1) if spec.conv else (FEATURES,), START))
        if jelly:
            functional.set_step_mode(self, "m" if self.kind.sequence else "s")

    @property
    def kind(self) -> Kind:
        return KINDS[self.spec.kind]

    @property
    def neurons(self) -> list[nn.Module]:
        return [self.get_submodule(f"n{i}") for i in range(self.spec.layers)]

    def one(self, x: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
        after = []
        for i in range(self.spec.layers):
            if not self.kind.own_weights:
                x = self.get_submodule(f"fc{i}")(x)
            if self.spec.between:
                x = self.get_submodule(f"mid{i}")(x)
            Fuse.tick("between")
            x, state = call(self.kind, self.get_submodule(f"n{i}"), x, states[i], self.spec.keyword)
            Fuse.tick("after")
            after.append(state)
        return x, after

    def loop(self, x: Tensor, states: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        states = self.begin(x.shape[1]) if states is None else states
        if self.kind.sequence:
            return self.one(x, states)
        out = []
        for x_t in x:
            y, states = self.one(x_t, states)
            out.append(y)
        return torch.stack(out), states

    def begin(self, batch: int) -> list[Any]:
        """States to begin with, as the network's `start` says; of neurons that keep their state, a reset."""
        if self.kind.held:
            reset(self, self.spec, batch)
            return [None] * self.spec.layers
        return [self._start(neuron, batch) for neuron in self.neurons]

    def _start(self, neuron: Any, batch: int) -> Any:
        shape = (batch, *shape_of(self.spec))
        start = self.spec.start
        if start == "none":
            return None
        if start == "init":
            state = neuron.reset_mem()
            return state if isinstance(state, tuple) else (state,)
        value = torch.full(shape, 0.0 if "zeros" in start else START)
        if start == "learned":
            value = self.v0.expand(shape)
        elif start == "computed":
            value = torch.sigmoid(self.v0).expand(shape)
        elif start in ("one zeros", "one constant", "buffer"):
            # The same tensors at each beginning of this batch.
            key = f"_start_{batch}"
            if key not in self.__dict__:
                self.__dict__[key] = (value, torch.zeros(shape))
            value, zeros = self.__dict__[key]
            return self.kind.state(value[:batch] if start == "buffer" else value, zeros)
        return self.kind.state(value, torch.zeros(shape))

    def forward(self, x: Tensor, states: list[Any] | None = None, begins: bool = False) -> Any:
        """One step. If the states are the module's own, only the output."""
        if self.kind.held:
            return self.one(x, [None] * self.spec.layers)[0]
        return self.one(x, [None] * self.spec.layers if states is None else states)


class Loop(Net):
    """The loop in the forward. `begins`: reset what the neurons keep, first. `sizes`: of the batch at each step."""

    def forward(self, x: Tensor, states: list[Any] | None = None, begins: bool = False, sizes: Any = None) -> Any:
        return self.encode(x, states, begins, sizes)

    def encode(self, x: Tensor, states: list[Any] | None = None, begins: bool = False, sizes: Any = None) -> Any:
        if sizes is not None:
            return self.shrinking(x, states, sizes)
        if self.kind.held:
            return self.loop(x, None if begins else [None] * self.spec.layers)[0]
        return self.loop(x, states)

    def shrinking(self, x: Tensor, states: list[Any] | None, sizes: tuple[int, ...]) -> Any:
        """Sequences that end one after the other, sorted by length: the states of those that go on are slices."""
        if states is None:
            states = [None] * self.spec.layers if self.kind.held else self.begin(x.shape[1])
        out, batch = [], x.shape[1]
        for x_t, size in zip(x, sizes, strict=True):
            if size < batch:
                batch = size
                if self.kind.held:
                    put(self, self.kind, first_rows(held(self, self.kind), size))
                states = first_rows(states, size)
                for listener in shrunk:
                    listener(size)
            y, states = self.one(x_t[:size], states)
            out.append(y)
        return (torch.cat(out), states) if not self.kind.held else torch.cat(out)


def first_rows(states: Any, size: int) -> Any:
    return tree_map(lambda value: value[:size] if isinstance(value, Tensor) and value.dim() else value, states)


class Two(Net):
    """Two streams in one call."""

    def forward(self, a: Tensor, b: Tensor, states: Any = None) -> Any:
        s, r = (None, None) if states is None else states
        if self.spec.form == PAIR:
            _tell(0)
            y, s = self.loop(a, s)
            _tell(1, s)
            z, r = self.loop(b, r)
            return y, z, (s, r)
        s, r = (self.begin(a.shape[1]) if s is None else s), (self.begin(b.shape[1]) if r is None else r)
        out = []
        for a_t, b_t in zip(a, b, strict=True):
            _tell(0)
            y, s = self.one(a_t, s)
            _tell(1, s)
            z, r = self.one(b_t, r)
            out.append((y, z))
        return *(torch.stack(part) for part in zip(*out, strict=True)), (s, r)


class Outer(nn.Module):
    def __init__(self, inner: nn.Module, form: str) -> None:
        super().__init__()
        self.inner, self.form = inner, form

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.form == ENCODE:
            return self.inner.encode(*args, **kwargs)
        return self.inner.forward(*args, **kwargs) if self.form == FORWARD else self.inner(*args, **kwargs)


def build(spec: Network) -> nn.Module:
    """The network, in train mode with its norms in eval mode, or in eval mode where it has dropout."""
    snntorch.SpikingNeuron.init()
    torch.manual_seed(spec.seed)
    if spec.form in OUTER:
        return Outer(Loop(spec), spec.form)
    if spec.form in TWO:
        return Two(spec)
    if spec.form == LOOP:
        return Loop(spec)
    net = Net(spec)
    if not in_sequence(spec):
        return net
    kind = norse.SequentialState if net.kind.toolkit == "norse" else nn.Sequential
    return kind(*net.children())


def in_sequence(spec: Network) -> bool:
    """Whether the layers stand in an nn.Sequential; of the functional forwards, half of them."""
    return spec.form == SEQUENTIAL or (spec.form == FUNCTIONAL and spec.seed % 2 == 0)


def weighted(spec: Network) -> list[str]:
    """The names of the layers that get delays, in the module that `build` returns."""
    kind = KINDS[spec.kind]
    if in_sequence(spec):
        return [str(i * (3 if spec.between else 2)) for i in range(spec.layers)]
    prefix = "inner." if spec.form in OUTER else ""
    return [f"{prefix}{'n' if kind.own_weights else 'fc'}{i}" for i in range(spec.layers)]


def neurons_of(net: nn.Module, kind: Kind) -> list[nn.Module]:
    if kind.toolkit == "spikingjelly":
        return [m for m in net.modules() if isinstance(m, base.MemoryModule)]
    return [m for m in net.modules() if isinstance(m, snntorch.SpikingNeuron)]


def held(net: nn.Module, kind: Kind) -> list[Any]:
    """What the neurons keep: the very objects."""
    return [tuple(getattr(neuron, name) for name in kind.names) for neuron in neurons_of(net, kind)]


def put(net: nn.Module, kind: Kind, states: list[Any]) -> None:
    for neuron, values in zip(neurons_of(net, kind), states, strict=True):
        for name, value in zip(kind.names, values, strict=True):
            setattr(neuron, name, value)


def shape_of(spec: Network) -> tuple[int, ...]:
    return (2, 3, 3) if spec.conv else (FEATURES,)


def reset(net: nn.Module, spec: Network, batch: int) -> None:
    """The reset of the toolkit, and where the start value is the user's, that."""
    kind, start, shape = KINDS[spec.kind], spec.start, shape_of(spec)
    if kind.toolkit == "spikingjelly":
        functional.reset_net(net)
        return
    if start == "utils":
        utils.reset(net)
        return
    for neuron in neurons_of(net, kind):
        neuron.reset_mem()
        last = kind.names[-1]
        if start == "put":
            setattr(neuron, last, torch.full((batch, *shape), START))
        elif start == "filled":
            if getattr(neuron, last).shape != (batch, *shape):
                setattr(neuron, last, torch.zeros(batch, *shape))
            getattr(neuron, last).fill_(START)


def set_start(net: nn.Module, spec: Network, batch: int) -> None:
    """SpikingJelly's value of a reset, a number or a tensor, where the program asks for one."""
    kind = KINDS[spec.kind]
    if kind.toolkit == "spikingjelly" and spec.start in ("number", "tensor"):
        shape = (batch, *shape_of(spec))
        for neuron in neurons_of(net, kind):
            neuron.set_reset_value(kind.names[0], START if spec.start == "number" else torch.full(shape, START))
            neuron.reset()


def detach_all(net: nn.Module, kind: Kind) -> None:
    """The toolkit's own function that cuts what the neurons keep off from the graph, in place."""
    if kind.toolkit == "spikingjelly":
        functional.detach_net(net)
        return
    for neuron in neurons_of(net, kind):
        for name in kind.names:
            if isinstance(value := getattr(neuron, name), Tensor):
                value.detach_()


def tensors(states: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map(lambda value: found.append(value) if isinstance(value, Tensor) else None, states)
    return found
