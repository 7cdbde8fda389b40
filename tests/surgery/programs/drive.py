"""Runs a program on a network: the plain one with queues, or the delayed one with its ways out."""

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from spikingjelly.activation_based import base, functional
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from . import networks
from .kinds import KINDS
from .networks import FEATURES, BoomError, Fuse, Outer, build, tensors, weighted
from .oracle import History
from .program import (
    FUNCTIONAL,
    OUTER,
    SEQUENTIAL,
    STEP,
    TWO,
    Abort,
    Begin,
    Both,
    Copy,
    Cut,
    Detach,
    Evaluate,
    Join,
    Mode,
    Op,
    Program,
    Restore,
    Run,
    Save,
    Shrink,
    Split,
    Touch,
    Train,
    Write,
)

STEPS = 40  # of each stream's input


class UnavailableError(Exception):
    """delayplug has no such function yet."""


class SenselessError(Exception):
    """The program makes no sense, as one that goes on with a stream that did not begin."""


@dataclass
class Stream:
    """A logical stream. `history` and `delays` are what a plain and a delayed network have under way."""

    x: Tensor
    rows: Tensor
    state: Any = None
    fresh: bool = True
    t: int = 0
    history: History = field(default_factory=dict)
    delays: Any = None  # None: it begins
    outputs: list[Tensor] = field(default_factory=list)
    chosen: list[Any] = field(default_factory=list)  # of its rows, since it ran last
    zeroed: bool = False  # written over since it ran last: it begins
    net: int = -1  # where it ran last
    changed: bool = False  # in a way that the delayed network must be told of


def _fork(stream: Stream) -> Stream:
    return replace(stream, outputs=[], chosen=list(stream.chosen))


def _looks(*_: Any) -> None:
    """A hook of a user who records something."""


def freeze(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout):
            module.eval()


class Driver:
    """One run of a program. `record` gets every output and state, in order; the two runs are compared by it."""

    def __init__(self, program: Program) -> None:
        networks.told.clear()
        networks.shrunk.clear()
        self.program, self.spec = program, program.network
        self.kind = KINDS[self.spec.kind]
        self.nets = [build(self.spec)]
        self.streams: dict[int, Stream] = {}
        self.slots: dict[int, Stream] = {}
        self.holder: dict[int, Stream | None] = {}  # whose state a net holds
        self.live: dict[int, Stream | None] = {}  # which stream a net ran last
        self.at = self.done = 0
        self.grad = program.grad
        self.parameters = [name for name, _ in self.nets[0].named_parameters()]
        self.broken = False  # the last call failed
        self.kept: list[Any] = []
        self.twin = False  # by its values, a copy of a state that was put back is that of a beginning
        self.quiet = False  # a fresh state of zeros met a last one of zeros with inputs under way
        generator = torch.Generator().manual_seed(program.seed)
        shape = (2, 3, 3) if self.spec.conv else (FEATURES,)
        self.inputs = (torch.rand(8, STEPS, 6, *shape, generator=generator) < 0.3).float()
        self.coefficients = torch.randint(-8, 9, (STEPS, 6, *shape), generator=generator) / 8
        self.functional: dict[int, Any] = {}
        if self.kind.held:
            starts = [op.batch for op in program.ops if isinstance(op, Begin)]
            networks.set_start(self.nets[0], self.spec, starts[0] if starts else 3)
        self.sequence = self.kind.sequence
        for net in self.nets:
            net.train(program.grad == "grad")
            freeze(net)
        if program.used:
            with self.context():
                self.use()

    # ----------------------------------------------------------------------------------- what the two runs differ in

    def use(self) -> None:
        """A few steps of the network before it gets its delays."""
        args = self.example()
        y = self.nets[0](*args)
        if not self.sequence and self.spec.form in (STEP, SEQUENTIAL):
            self.nets[0](*args[:1], *(y[1:] if isinstance(y, tuple) and not self.kind.held else ()))

    def example(self) -> tuple[Any, ...]:
        """Arguments of a call."""
        spec, x = self.spec, self.inputs[7][:4, :2]
        if spec.form in TWO:
            return (x, x)
        if self.kind.sequence or spec.form not in (STEP, SEQUENTIAL, FUNCTIONAL):
            return (x,)
        if self.kind.held or spec.form != STEP:
            return (x[0],)
        return (x[0], self.core(0).begin(2))

    def record(self, label: str, values: list[Tensor]) -> None:
        raise NotImplementedError

    def before(self, net: int, streams: list[Stream]) -> None: ...

    def before_each(self, net: int, stream: Stream) -> None: ...

    def after(self, net: int, streams: list[Stream]) -> None: ...

    def failed(self) -> None: ...

    def cut(self, stream: Stream, index: Any) -> None: ...

    def join(self, stream: Stream, other: Stream) -> None: ...

    def detach(self, stream: Stream) -> None: ...

    def copied(self, net: int, new: int) -> None: ...

    # ---------------------------------------------------------------------------------------------------- operations

    def run(self) -> None:
        for i, op in enumerate(self.program.ops):
            self.at = i
            with self.context():
                self.do(op)

    @contextmanager
    def context(self) -> Iterator[None]:
        grad = self.grad
        with torch.inference_mode() if grad == "inference" else torch.set_grad_enabled(grad == "grad"):
            yield

    def stream(self, number: int) -> Stream:
        if number not in self.streams:
            raise SenselessError
        return self.streams[number]

    def net(self, number: int) -> nn.Module:
        if number >= len(self.nets):
            raise SenselessError
        return self.nets[number]

    def core(self, net: int) -> nn.Module:
        module = self.net(net)
        return module.inner if isinstance(module, Outer) else module

    def do(self, op: Op) -> None:
        match op:
            case Begin(number, batch, how, net):
                self.streams[number] = self.begun(number, batch, how, net)
            case Run(number, steps, net):
                self.steps(self.stream(number), steps, net)
            case Shrink(number, sizes, net):
                self.shrink(self.stream(number), sizes, net)
            case Touch(how):
                self.touch(how)
            case Mode(mode):
                self.switch_mode(mode)
            case Both(first, second, steps, net):
                self.both(self.stream(first), self.stream(second), steps, net)
            case Detach(number, how):
                self.detached(self.stream(number), how)
            case Save(number, slot, how):
                stream = _fork(self.stream(number))
                self.slots[slot] = stream
                if how == "clone":
                    stream.state = self.clone(stream.state)
                    stream.changed = True
            case Restore(number, slot, how):
                if slot not in self.slots:
                    raise SenselessError
                stream = self.streams[number] = _fork(self.slots[slot])
                if how == "clone":
                    stream.state = self.clone(stream.state)
                    stream.changed = True
            case Cut(number, how, index):
                self.rows(self.stream(number), how, index)
            case Split(number, other, rows):
                stream = self.stream(number)
                if not 0 < rows < len(stream.rows):
                    raise SenselessError
                rest = self.streams[other] = _fork(stream)
                rest.outputs, stream.outputs = [], []
                self.rows(rest, "slice", (rows, None, None))
                self.rows(stream, "slice", (None, rows, None))
            case Join(number, other):
                self.together(self.stream(number), self.stream(other))
                del self.streams[other]
            case Write(number, how):
                self.written(self.stream(number), how)
            case Train(number, how):
                self.train(self.stream(number), how)
            case Evaluate(number, steps):
                self.evaluate(self.stream(number), steps)
            case Copy(net, goes, how):
                self.copy(net, goes, how)
            case Abort(number, steps, at, where):
                self.abort(self.stream(number), steps, at, where)

    def begun(self, number: int, batch: int, how: str, net: int) -> Stream:
        self.net(net)
        stream = Stream(self.inputs[number], torch.arange(batch))
        inside = self.spec.form in (*OUTER, "loop", *TWO)
        if how == "shape":
            # Neurons that keep their state begin by themselves when the batch has another size.
            sizes = {len(v) for v in tensors(self.extracted(net)) if v.numel()} if self.kind.held else {batch}
            if batch in sizes or not sizes or inside or self.spec.form == FUNCTIONAL or self.holder.get(net) is None:
                raise SenselessError
        if self.kind.held:
            if how == "reset" and self.spec.form != FUNCTIONAL:
                if not (inside and self.spec.start == "reset"):
                    networks.reset(self.net(net), self.spec, batch)
                if self.spec.start in ("put", "filled"):
                    stream.changed = True
            stream.state = self.extracted(net)
            self.holder[net] = stream
        elif not inside and self.spec.form != SEQUENTIAL:
            stream.state = self.core(net).begin(batch)
            stream.changed = self.spec.start in ("constant", "one constant", "computed", "buffer", "learned")
        return stream

    def extracted(self, net: int) -> Any:
        return networks.held(self.net(net), self.kind)

    def steps(self, stream: Stream, steps: int, net: int = 0) -> None:
        if stream.t + steps > STEPS:
            raise SenselessError
        chunk = stream.x[stream.t : stream.t + steps][:, stream.rows]
        state = self.occupy(stream, net)
        self.before(net, [stream])
        self.done = 0
        module = self.net(net)
        out = []
        per_step = not self.sequence and self.spec.form in (STEP, SEQUENTIAL, FUNCTIONAL)
        for x in chunk if per_step else [chunk]:
            self.before_each(net, stream)
            y, state = self.call(module, x, state, stream.fresh)
            stream.fresh = False
            self.done += 1
            out.append(y)
            if self.program.record:
                self.kept.append(self.extracted(net) if self.kind.held and self.spec.form != FUNCTIONAL else state)
        stream.state = self.extracted(net) if self.kind.held and self.spec.form != FUNCTIONAL else state
        y = torch.stack(out) if per_step else out[0]
        self.live[net], stream.net, stream.zeroed = stream, net, False
        self.after(net, [stream])
        stream.outputs.append((y * self.coefficients[stream.t : stream.t + steps][:, stream.rows]).sum())
        stream.t += steps
        self.record("outputs", [y])
        self.record("state", tensors(stream.state))

    def occupy(self, stream: Stream, net: int) -> Any:
        """Put the state of a stream where the network looks for it; returns what is passed."""
        is_there = self.holder.get(net) is stream and stream.net in (net, -1)
        if self.kind.held and self.spec.form != FUNCTIONAL and not is_there:
            networks.put(self.net(net), self.kind, stream.state)
            self.holder[net] = stream
        return stream.state

    def call(self, module: nn.Module, x: Tensor, state: Any, fresh: bool) -> tuple[Tensor, Any]:
        if self.spec.form == FUNCTIONAL:
            forward = self.functional.setdefault(id(module), base.to_functional_forward(module))
            flat = tuple(value for values in state for value in values)
            (y,), flat = forward((x,), flat)
            size = len(self.kind.names)
            return y, [tuple(flat[i : i + size]) for i in range(0, len(flat), size)]
        if self.kind.held:
            begins = {"begins": True} if fresh and self.spec.form in (*OUTER, "loop") else {}
            if self.spec.start != "reset":
                begins = {}
            return module(x, **begins), None
        # Norse's container writes the next states into the list that it is given.
        return self.with_state(module, x, None if fresh and self.spec.form != STEP else list(state))

    def with_state(self, module: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, state = module(x) if state is None else module(x, state)
        return y, state

    def shrink(self, stream: Stream, sizes: tuple[int, ...], net: int) -> None:
        inside = self.spec.form in (*OUTER, "loop") and not self.kind.sequence
        if stream.t + len(sizes) > STEPS or not inside or len(stream.rows) < sizes[0] or self.spec.start == "reset":
            raise SenselessError
        if self.kind.held and any(v.shape[:1] != stream.rows.shape for v in tensors(stream.state)):
            raise SenselessError
        chunk = stream.x[stream.t : stream.t + len(sizes)][:, stream.rows]
        state = self.occupy(stream, net)
        self.before(net, [stream])
        passed = () if self.kind.held or stream.fresh else (state,)
        out = self.net(net)(chunk, *passed, sizes=sizes)
        y, state = (out, None) if self.kind.held else out
        stream.fresh, stream.t, stream.rows = False, stream.t + len(sizes), stream.rows[: sizes[-1]]
        stream.state = self.extracted(net) if self.kind.held else state
        self.live[net], stream.net, stream.zeroed = stream, net, False
        self.after(net, [stream])
        stream.outputs = []
        self.record("outputs", [y])
        self.record("state", tensors(stream.state))

    def switch_mode(self, mode: str) -> None:
        if self.kind.toolkit != "spikingjelly" or not self.kind.held or self.spec.form not in (STEP, SEQUENTIAL):
            raise SenselessError
        self.sequence = mode == "m"
        for net in self.nets:
            functional.set_step_mode(net, mode)

    def both(self, one: Stream, other: Stream, steps: int, net: int) -> None:
        if one.t + steps > STEPS or other.t + steps > STEPS or one.fresh != other.fresh:
            raise SenselessError
        self.before(net, [one, other])
        a, b = (s.x[s.t : s.t + steps][:, s.rows] for s in (one, other))
        states = None if one.fresh else (one.state, other.state)
        y, z, (one.state, other.state) = self.net(net)(a, b, *([] if states is None else [states]))
        self.after(net, [one, other])
        for stream, out in ((one, y), (other, z)):
            stream.fresh = False
            stream.outputs.append((out * self.coefficients[stream.t : stream.t + steps][:, stream.rows]).sum())
            stream.t += steps
        self.record("outputs", [y, z])
        self.record("state", tensors([one.state, other.state]))

    def map(self, fn: Any, state: Any) -> Any:
        return tree_map(lambda value: fn(value) if isinstance(value, Tensor) else value, state)

    def clone(self, state: Any) -> Any:
        return self.map(lambda value: value.clone(), state)

    def change(self, stream: Stream, state: Any) -> None:
        """The stream's state is another one now; if its network holds it, there too."""
        stream.state = state
        for net, holder in self.holder.items():
            if holder is stream:
                self.holder[net] = None

    def detached(self, stream: Stream, how: str) -> None:
        holders = [net for net, holder in self.holder.items() if holder is stream]
        if how == "toolkit" and self.kind.held and self.spec.form != FUNCTIONAL and holders:
            for net in holders:
                networks.detach_all(self.net(net), self.kind)
        elif how == "detach_" and not any(value._is_view() for value in tensors(stream.state)):
            self.map(lambda value: value.detach_(), stream.state)
        elif how == "data":
            self.change(stream, self.map(lambda value: value.data, stream.state))
        else:
            self.change(stream, self.map(lambda value: value.detach(), stream.state))
        self.detach(stream)
        stream.outputs = []

    def rows(self, stream: Stream, how: str, index: tuple[int | None, ...]) -> None:
        """Other rows of the batch, of the state and of what comes; `index` counts modulo the batch."""
        batch = len(stream.rows)
        if how == "slice":
            chosen: Any = slice(*index)
        else:
            numbers = [i % batch for i in index]
            if how == "mask":
                chosen = torch.tensor([i in numbers for i in range(batch)])
            elif how == "permute":
                chosen = torch.tensor(sorted(range(batch), key=lambda i: (index[i % len(index)], i)))
            else:
                chosen = numbers if how == "list" else torch.tensor(numbers)
        rows = stream.rows[chosen]
        if not 0 < len(rows) <= 6:
            raise SenselessError
        dim = 1 if "SpikingLSTM " in f"{self.spec.kind} " or "SpikingGRU " in f"{self.spec.kind} " else 0
        pick = (lambda v: v[:, chosen]) if dim else (lambda v: v[chosen])
        if how == "expand":
            if batch != 1:
                raise SenselessError
            pick = (
                (lambda v: v.expand(v.shape[0], len(rows), *v.shape[2:]))
                if dim
                else (lambda v: v.expand(len(rows), *v.shape[1:]))
            )
        if self.kind.held and all(v.numel() == 0 for v in tensors(stream.state)):
            raise SenselessError
        if any(v.shape[dim] != batch for v in tensors(stream.state)):
            raise SenselessError
        stream.changed |= how != "slice"
        self.change(stream, self.map(pick, stream.state))
        stream.rows = rows
        stream.outputs = []
        self.cut(stream, chosen)

    def together(self, stream: Stream, other: Stream) -> None:
        if other is stream or stream.fresh or other.fresh or len(stream.rows) + len(other.rows) > 6:
            raise SenselessError
        one, two = tensors(stream.state), iter(tensors(other.state))
        if [v.dim() for v in one] != [v.dim() for v in tensors(other.state)] or self.kind.own_weights:
            raise SenselessError
        self.join(stream, other)
        state = self.map(lambda value: torch.cat([value, next(two)]), stream.state)
        # From here on the rows see their own inputs: those of `other` come after the stream's.
        length = STEPS - max(stream.t, other.t)
        parts = [s.x[s.t : s.t + length][:, s.rows] for s in (stream, other)]
        x = torch.cat(parts, 1)
        stream.x = torch.cat([torch.zeros(stream.t, *x.shape[1:]), x])
        stream.rows = torch.arange(x.shape[1])
        stream.changed = True
        stream.outputs = []
        self.change(stream, state)

    def written(self, stream: Stream, how: str) -> None:
        if self.program.grad == "inference" and how == "zero":
            self.twin |= not any(bool(value.any()) for value in tensors(stream.state))  # nothing changes
        with torch.no_grad():
            for value in tensors(stream.state):
                if value.requires_grad or value.grad_fn is not None or (value._is_view() and 0 in value.stride()):
                    raise SenselessError
                if how == "row" and value.numel():
                    value[0] = 0.25
                elif how == "scale":
                    value.mul_(0.5)
                else:
                    value.zero_()
        written = {id(value) for value in tensors(stream.state)}
        for other in (*self.streams.values(), *self.slots.values()):
            other.changed |= any(id(value) in written for value in tensors(other.state))
        if how == "zero":
            stream.history, stream.delays, stream.zeroed = {}, None, True

    def train(self, stream: Stream, how: str) -> None:
        if not stream.outputs:
            raise SenselessError
        loss = torch.stack(stream.outputs).sum()
        for value in tensors(stream.state):
            if value.grad_fn is not None:
                loss = loss + value.sum() / 8
        if loss.grad_fn is None:
            raise SenselessError
        names = self.parameters
        for net in self.nets:
            net.zero_grad()
        loss.backward()
        for net in self.nets:
            values = dict(net.named_parameters())
            grads = [values[n].grad for n in names if values[n].grad is not None]
            self.record("gradients", grads)
            with torch.no_grad():
                for name in names:
                    if values[name].grad is not None:
                        step = (values[name].grad.clamp(-8, 8) * 4).round() / 64
                        values[name].sub_(step)
        self.detached(stream, how)

    def touch(self, how: str) -> None:
        """What users do to a network between two calls, and what must not matter."""
        for net in self.nets:
            if how in ("eval", "train"):
                net.train(how == "train")
                freeze(net)
            elif how == "to":
                net.to("cpu")
            elif how == "load":
                net.load_state_dict({name: value.clone() for name, value in net.state_dict().items()})
            elif how == "hooks":
                # Not on what neurons share with others, such as surrogates that are default arguments.
                for module in (*map(net.get_submodule, weighted(self.spec)), *networks.neurons_of(net, self.kind)):
                    module.register_forward_hook(_looks)
            elif how == "layer":
                for name in weighted(self.spec):
                    net.set_submodule(name, copy.deepcopy(net.get_submodule(name)))
        if how == "layer":
            for stream in (*self.streams.values(), *self.slots.values()):
                stream.changed = True
        if how in ("grad", "no_grad"):
            if self.program.grad != "grad":
                raise SenselessError
            self.grad = how

    def evaluate(self, stream: Stream, steps: int) -> None:
        net = self.net(0)
        number = next(i for i in range(8) if i not in self.streams)
        modes = [(module, module.training) for module in net.modules()]
        net.eval()
        with torch.no_grad():
            state = stream.state
            guest = self.begun(number, len(stream.rows), "reset", 0)
            if self.kind.held and self.spec.form != FUNCTIONAL and state is not None:
                self.change(stream, state)
            self.steps(guest, steps)
        for module, training in modes:
            module.training = training

    def copy(self, net: int, goes: tuple[int, int] | None, how: str) -> None:
        new = len(self.nets)
        module = self.net(net)
        self.nets.append(copy.deepcopy(module) if how == "deepcopy" else pickle.loads(pickle.dumps(module)))
        self.holder[new], self.live[new] = None, None
        self.copied(net, new)
        if goes is None:
            return
        stream = self.stream(goes[0])
        fork = self.streams[goes[1]] = _fork(stream)
        if self.live.get(net) is stream:
            self.live[new] = fork
        if self.kind.held and self.holder.get(net) is stream:
            fork.state, self.holder[new] = self.extracted(new), fork

    def abort(self, stream: Stream, steps: int, at: int, where: str) -> None:
        if self.spec.form == SEQUENTIAL or stream.t + steps > STEPS:
            raise SenselessError
        state, fresh, t, outputs = stream.state, stream.fresh, stream.t, list(stream.outputs)
        Fuse.where, Fuse.left = where, at
        try:
            self.steps(stream, steps)
        except BoomError:
            stream.state, stream.fresh, stream.t, stream.outputs = state, fresh, t, outputs
            stream.changed = self.broken = True
            self.change(stream, state)
            self.failed()
        finally:
            Fuse.where = ""
