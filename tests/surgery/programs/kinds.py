"""The neurons of the programs: how each is made and called, and where its state is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import norse.torch as norse
import snntorch
import torch
from norse.torch.functional.iaf import IAFFeedForwardState
from norse.torch.functional.lif import LIFFeedForwardState
from norse.torch.functional.lif_adex import LIFAdExFeedForwardState
from norse.torch.functional.lif_box import LIFBoxFeedForwardState
from norse.torch.functional.lif_ex import LIFExFeedForwardState
from norse.torch.functional.lif_refrac import LIFRefracFeedForwardState
from norse.torch.module.snn import SNNCell
from snntorch.surrogate import atan
from spikingjelly.activation_based import base, neuron, rnn
from torch import Tensor, nn

THRESHOLD = 0.77  # no sum of the weights, which are multiples of 1/8


@dataclass(frozen=True)
class Kind:
    """`state`: (values, zeros) to a state whose membrane has these values; `names`: of the state on the module."""

    toolkit: str
    make: Callable[[int], nn.Module]
    state: Callable[[Tensor, Tensor], Any] | None = None
    names: tuple[str, ...] = ()
    sequence: bool = False  # takes (T, B, ...)
    own_weights: bool = False  # is its own layer, with delays per input
    init: bool = False  # reset_mem() returns the state to begin with
    starts: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()  # of the state in a call, if not `names`

    @property
    def held(self) -> bool:
        return self.state is None


def call(kind: Kind, module: nn.Module, x: Tensor, state: Any, keyword: bool = False) -> tuple[Tensor, Any]:
    """The output of a neuron and its next state, None if it keeps it."""
    if kind.held:
        y = module(x)
        return (y[0] if isinstance(y, tuple) else y), None
    states = state if kind.toolkit == "snntorch" and state is not None else (state,)
    names = kind.keywords or kind.names
    passed = dict(zip(names, states, strict=False)) if keyword and state is not None else {}
    y = module(x, **passed) if passed else module(x, *(() if state is None and kind.toolkit == "snntorch" else states))
    if kind.toolkit == "snntorch":
        return y[0], tuple(y[1:])
    if kind.own_weights and not kind.sequence:
        return (y[0] if isinstance(y, tuple) else y), y
    return y[0], y[1]


class Fatigue(snntorch.Leaky):
    """A user's neuron: a tuple of a membrane and of a threshold that rises, passed and returned."""

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> Any:
        v, high = (torch.zeros_like(x), torch.zeros_like(x)) if state is None else state
        v = 0.9 * v + x
        spikes = self.spike_grad(v - THRESHOLD - high)
        return spikes, (v - spikes.detach() * THRESHOLD, 0.8 * high + 0.1 * spikes)


class HeldFatigue(snntorch.Leaky):
    """A user's neuron that keeps its state under names of its own."""

    def __init__(self) -> None:
        super().__init__(beta=0.9, init_hidden=True)
        self.potential: Tensor | None = None
        self.high: Tensor | None = None

    def reset_mem(self) -> None:
        self.potential = self.high = None

    def forward(self, x: Tensor) -> Tensor:
        if self.potential is None or self.potential.shape != x.shape:
            self.potential, self.high = torch.zeros_like(x), torch.zeros_like(x)
        v = 0.9 * self.potential + x
        spikes = self.spike_grad(v - THRESHOLD - self.high)
        self.potential, self.high = v - spikes.detach() * THRESHOLD, 0.8 * self.high + 0.1 * spikes
        return spikes


class Slow(base.MemoryModule):
    """A user's neuron for SpikingJelly with memories of its own names."""

    def __init__(self) -> None:
        super().__init__()
        self.register_memory("u", 0.0)
        self.register_memory("trace", None)

    def single_step_forward(self, x: Tensor) -> Tensor:
        trace = torch.zeros_like(x) if self.trace is None or self.trace.shape != x.shape else self.trace
        u = self.u
        if not isinstance(u, Tensor) or u.shape != x.shape:
            u = torch.full_like(x, u if isinstance(u, float) else 0.0)
        u = 0.8 * u + x - 0.2 * trace
        spikes = neuron.LIFNode().surrogate_function(u - THRESHOLD)
        self.u, self.trace = u * (1 - spikes), 0.9 * trace + spikes
        return spikes

    def multi_step_forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.single_step_forward(x_t) for x_t in x])


class DictCell(SNNCell):
    """A user's cell for Norse whose state is a dict."""

    def __init__(self) -> None:
        super().__init__(None, None, None)

    def forward(self, x: Tensor, state: dict[str, Tensor] | None = None) -> Any:
        v, w = (torch.zeros_like(x), torch.zeros_like(x)) if state is None else (state["v"], state["w"])
        v = 0.9 * v + x - w
        spikes = atan()(v - THRESHOLD)
        return spikes, {"v": v * (1 - spikes), "w": 0.7 * w + 0.2 * spikes}


class OwnState(NamedTuple):
    v: Tensor
    inner: LIFBoxFeedForwardState


def _leaky(**options: Any) -> snntorch.Leaky:
    return snntorch.Leaky(beta=0.9, threshold=THRESHOLD, **options)


def _parameters(kind: Any, **extra: float) -> Any:
    fast = {name: torch.tensor(400.0) for name in ("tau_syn_inv", "tau_mem_inv") if name in kind._fields}
    return kind(**fast, v_th=torch.tensor(0.37), **extra)


def _cells(kind: Any) -> Callable[[int], nn.Module]:
    def make(size: int) -> nn.Module:
        cell = kind(size, size)
        with torch.no_grad():
            for p in cell.parameters():
                p.copy_(torch.randint(-6, 10, p.shape) / 8 + 1 / 64)
        return cell

    return make


def _layers(kind: Any) -> Callable[[int], nn.Module]:
    return lambda size: _cells(lambda a, b: kind(a, b, 2))(size)


_ZEROS = ("zeros", "one zeros")
_VALUES = (*_ZEROS, "constant", "one constant", "learned", "computed", "buffer")
_SNN = {
    "Leaky": (_leaky, lambda v, z: (v,), ("mem",)),
    "Synaptic": (
        lambda **o: snntorch.Synaptic(alpha=0.8, beta=0.9, threshold=THRESHOLD, **o),
        lambda v, z: (z, v),
        ("syn", "mem"),
    ),
    "Alpha": (
        lambda **o: snntorch.Alpha(alpha=0.9, beta=0.8, threshold=THRESHOLD, **o),
        lambda v, z: (z, z.clone(), v),
        ("syn_exc", "syn_inh", "mem"),
    ),
    "Lapicque": (
        lambda **o: snntorch.Lapicque(beta=0.9, threshold=THRESHOLD, **o),
        lambda v, z: (v,),
        ("mem",),
    ),
}
KINDS: dict[str, Kind] = {}
for _name, (_make, _state, _names) in _SNN.items():
    KINDS[f"snntorch {_name} passed"] = Kind(
        "snntorch", lambda h, m=_make: m(), _state, _names, init=True, starts=(*_VALUES, "init")
    )
    KINDS[f"snntorch {_name} held"] = Kind(
        "snntorch", lambda h, m=_make: m(init_hidden=True), None, _names, starts=("reset", "utils", "put", "filled")
    )
KINDS |= {
    "snntorch Leaky left": Kind("snntorch", lambda h: _leaky(), None, ("mem",), starts=("reset",)),
    "snntorch DeltaLeaky passed": Kind(
        "snntorch",
        lambda h: snntorch.DeltaLeaky(beta=0.9, delta_threshold=0.5),
        lambda v, z: ((v, z),),
        ("mem", "mem_prev"),
        starts=_VALUES,
    ),
    "snntorch user's passed": Kind(
        "snntorch",
        lambda h: Fatigue(beta=0.9),
        lambda v, z: ((v, z),),
        starts=("none", *_VALUES),
        keywords=("state",),
    ),
    "snntorch user's held": Kind("snntorch", lambda h: HeldFatigue(), None, ("potential", "high"), starts=("reset",)),
}
for _cell, _params, _state in (
    (norse.LIFBoxCell, norse.LIFBoxParameters, lambda v, z: LIFBoxFeedForwardState(v)),
    (norse.LIFCell, norse.LIFParameters, lambda v, z: LIFFeedForwardState(v, z)),
    (norse.LIFExCell, norse.LIFExParameters, lambda v, z: LIFExFeedForwardState(v, z)),
    (norse.LIFAdExCell, norse.LIFAdExParameters, lambda v, z: LIFAdExFeedForwardState(v, z, z.clone())),
    (norse.IAFCell, norse.IAFParameters, lambda v, z: IAFFeedForwardState(v)),
):
    KINDS[f"norse {_cell.__name__}"] = Kind(
        "norse", lambda h, c=_cell, p=_params: c(p=_parameters(p)), _state, starts=("none", *_VALUES)
    )
KINDS |= {
    "norse LIFRefracCell": Kind(
        "norse",
        lambda h: norse.LIFRefracCell(),
        lambda v, z: LIFRefracFeedForwardState(LIFFeedForwardState(v, z), z.clone()),
        starts=("none", *_ZEROS),
    ),
    "norse LIF": Kind(
        "norse",
        lambda h: norse.LIF(p=_parameters(norse.LIFParameters)),
        lambda v, z: LIFFeedForwardState(v, z),
        sequence=True,
        starts=("none", *_VALUES),
    ),
    "norse user's dict": Kind("norse", lambda h: DictCell(), lambda v, z: {"v": v, "w": z}, starts=("none", *_VALUES)),
}
for _name, _make, _names in (
    ("IFNode", lambda: neuron.IFNode(v_threshold=THRESHOLD), ("v",)),
    ("LIFNode", lambda: neuron.LIFNode(v_threshold=THRESHOLD), ("v",)),
    ("LIFNode soft", lambda: neuron.LIFNode(v_threshold=THRESHOLD, v_reset=None, decay_input=False), ("v",)),
    ("CUBALIFNode", lambda: neuron.CUBALIFNode(v_threshold=THRESHOLD), ("v", "c")),
    ("user's", Slow, ("u", "trace")),
):
    for _mode in "sm":
        KINDS[f"spikingjelly {_name} {_mode}"] = Kind(
            "spikingjelly",
            lambda h, m=_make: m(),
            None,
            _names,
            sequence=_mode == "m",
            starts=("reset", "number", "tensor"),
        )
KINDS |= {
    "spikingjelly SpikingLSTMCell": Kind(
        "spikingjelly", _cells(rnn.SpikingLSTMCell), lambda v, z: (v, z), own_weights=True, starts=("none", *_VALUES)
    ),
    "spikingjelly SpikingVanillaRNNCell": Kind(
        "spikingjelly", _cells(rnn.SpikingVanillaRNNCell), lambda v, z: v, own_weights=True, starts=("none", *_VALUES)
    ),
    "spikingjelly SpikingGRUCell": Kind(
        "spikingjelly", _cells(rnn.SpikingGRUCell), lambda v, z: v, own_weights=True, starts=("none", *_VALUES)
    ),
    "spikingjelly SpikingLSTM": Kind(
        "spikingjelly",
        _layers(rnn.SpikingLSTM),
        lambda v, z: (torch.stack([v, v]), torch.stack([z, z])),
        sequence=True,
        own_weights=True,
        starts=("none", "zeros"),
    ),
    "spikingjelly SpikingGRU": Kind(
        "spikingjelly",
        _layers(rnn.SpikingGRU),
        lambda v, z: torch.stack([v, v]),
        sequence=True,
        own_weights=True,
        starts=("none", "zeros"),
    ),
}

for _name, _kind in KINDS.items():
    if _kind.toolkit == "norse":
        KINDS[_name] = replace(_kind, keywords=("state",))
    elif _kind.own_weights:
        KINDS[_name] = replace(_kind, keywords=("states" if _kind.sequence else "hc" if "LSTM" in _name else "h",))
