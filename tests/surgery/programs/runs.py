"""The two runs of a program: on the plain network with queues, and on the delayed one with its ways out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import delayplug
from delayplug import SequenceError

from . import networks
from .drive import Driver, Stream, UnavailableError
from .networks import MAX_DELAY, Outer, tensors, weighted
from .oracle import History, Queues, detached, joined, pending, select
from .program import FUNCTIONAL, SEQUENTIAL, Begin, Program, Run


def public(name: str) -> Callable[..., Any]:
    try:
        return getattr(delayplug, name)
    except AttributeError:
        raise UnavailableError(name) from None


class Plain(Driver):
    """The oracle: a plain network, and of each stream the queue that it would have."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.records: list[tuple[int, str, list[Tensor]]] = []
        self.queues: list[Queues] = []
        self.last: Stream | None = None
        self._watch(self.nets[0])

    def failed(self) -> None:
        networks.shrunk.clear()

    def switch_mode(self, mode: str) -> None:
        super().switch_mode(mode)
        for queues in self.queues:
            queues.sequence = self.sequence

    def touch(self, how: str) -> None:
        with self.unwatched():
            super().touch(how)

    def copy(self, net: int, goes: tuple[int, int] | None, how: str) -> None:
        with self.unwatched():
            super().copy(net, goes, how)

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """Copies of the network are copies of a plain one, without the queues."""
        for net in self.nets:
            for name in weighted(self.spec):
                net.get_submodule(name)._forward_pre_hooks.clear()
        yield
        for net, queues in zip(self.nets, self.queues, strict=True):
            queues.watch(net, weighted(self.spec))

    def _watch(self, net: nn.Module) -> None:
        queues = Queues(self.spec.delay, self.sequence)
        queues.watch(net, weighted(self.spec))
        self.queues.append(queues)

    def record(self, label: str, values: list[Tensor]) -> None:
        self.records.append((self.at, label, [value.detach().clone() for value in values]))

    def before(self, net: int, streams: list[Stream]) -> None:
        queues = self.queues[net]
        if self.last is not None and any(s.fresh for s in streams):
            self.quiet |= self.is_quiet(self.last.state, self.last.history)
        if len(streams) == 1:
            self.twin |= streams[0].changed and self.is_quiet(streams[0].state, streams[0].history)
            streams[0].changed = False
            queues.start(streams[0].history)
            networks.shrunk.append(lambda size: setattr(queues, "now", select(queues.now, slice(size))))
            return
        self.pair = [{name: list(xs) for name, xs in s.history.items()} for s in streams]
        fresh = streams[0].fresh

        def switch(number: int, state: Any) -> None:
            nonlocal fresh
            queues.now = self.pair[number]
            if number == 1 and fresh:
                self.quiet |= self.is_quiet(state, self.pair[0])
                fresh = False

        networks.told.append(switch)

    def is_quiet(self, states: Any, history: History) -> bool:
        """Whether the state of one of the neurons is that of a beginning, with inputs yet to arrive."""
        pairs = zip(states or [], weighted(self.spec), strict=False)
        return any(self._as_begun(state) and pending(history.get(name, [])) for state, name in pairs)

    def _as_begun(self, state: Any) -> bool:
        values = tensors(state)
        if not any(bool(value.any()) for value in values):
            return True
        if self.kind.held and self.spec.start in ("number", "tensor", "put", "filled"):
            return all(not value.any() or bool((value == networks.START).all()) for value in values)
        if self.kind.held or self.spec.start in ("none", "init") or "zeros" in self.spec.start:
            return False
        with torch.no_grad():
            start = tensors(self.core(0).begin(len(values[0])))
        pairs = zip(values, start, strict=False)
        return all(value.shape == first.shape and bool((value == first).all()) for value, first in pairs)

    def after(self, net: int, streams: list[Stream]) -> None:
        networks.told.clear()
        networks.shrunk.clear()
        histories = [self.queues[net].now] if len(streams) == 1 else self.pair
        for stream, history in zip(streams, histories, strict=True):
            stream.history = history
        self.last = streams[-1]

    def cut(self, stream: Stream, index: Any) -> None:
        stream.history = select(stream.history, index)

    def join(self, stream: Stream, other: Stream) -> None:
        stream.history = joined(stream.history, other.history, (len(stream.rows), len(other.rows)))

    def detach(self, stream: Stream) -> None:
        stream.history = detached(stream.history)

    def copied(self, net: int, new: int) -> None:
        self._watch(self.nets[new])


class MismatchError(Exception):
    """The delayed network computes something else."""


class Delayed(Driver):
    """The delayed network, compared with what the oracle recorded."""

    def __init__(self, program: Program, expected: list[tuple[int, str, list[Tensor]]]) -> None:
        super().__init__(program)
        self.expected = iter(expected)
        self.ways, spec = program.ways_out, self.spec
        if self.ways == "needed" and not self.kind.held and spec.between in ("norm", "scale"):
            self.ways = "all"  # what a layer computed cannot be replaced behind it
        target = self.nets[0] if spec.on_outer or not isinstance(self.nets[0], Outer) else self.nets[0].inner
        delayplug.add_delays(
            target,
            MAX_DELAY,
            init=spec.delay,
            interpolation="linear",
            granularity="axonal" if self.kind.own_weights else "synaptic",
            example=self.example() if spec.example else None,
        )
        names = [name for name, _ in delayplug.named_delays(self.nets[0])]
        if names != weighted(spec):
            raise AssertionError(f"delays at {names}, not at {weighted(spec)}")

    def with_state(self, module: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        if self.program.checkpoint and torch.is_grad_enabled():
            # Backward computes the call a second time.
            call = super().with_state
            return checkpoint(lambda value: call(module, value, state), x, use_reentrant=False)
        return super().with_state(module, x, state)

    def record(self, label: str, values: list[Tensor]) -> None:
        at, name, expected = next(self.expected)
        assert (at, name) == (self.at, label)
        if self.spec.form == SEQUENTIAL and label == "state" and self.kind.toolkit == "norse":
            return  # the delays' state is among them
        shapes = [tuple(v.shape) for v in values], [tuple(v.shape) for v in expected]
        if shapes[0] != shapes[1]:
            raise MismatchError(f"{label} of shapes {shapes[0]}, not {shapes[1]}")
        for value, right in zip(values, expected, strict=True):
            close = torch.isclose(value, right, rtol=1e-4, atol=1e-5)
            if not close.all():
                raise MismatchError(f"{1 - close.float().mean():.2f} of the {label} {tuple(right.shape)}")

    def recover(self, expected: list[list[tuple[int, str, list[Tensor]]]], batch: int) -> None:
        """After an error: reset_delays, and a sequence of its own on each of the networks."""
        for net, records in zip(range(len(self.nets)), expected, strict=False):
            public("reset_delays")(self.nets[net])
            self.expected, self.at = iter(records), 0
            with self.context():
                self.do(Begin(0, batch, "reset", net))
            self.at = 1
            with self.context():
                self.do(Run(0, 4, net))

    def steps(self, stream: Stream, steps: int, net: int = 0) -> None:
        fresh = stream.fresh
        try:
            super().steps(stream, steps, net)
        except SequenceError:
            if self.ways != "after" or self.done or not (fresh or (stream.net == net and self.live.get(net) is stream)):
                raise
            if fresh or stream.zeroed:
                public("reset_delays")(self.nets[net])
            elif stream.chosen:
                for index in stream.chosen:
                    public("select_delays")(self.nets[net], index)
            else:
                public("set_delay_state")(self.nets[net], public("delay_state")(self.nets[net]))
            self.change(stream, stream.state)
            super().steps(stream, steps, net)
        stream.chosen = []

    def tell(self, net: int, stream: Stream) -> None:
        """Make what is under way in a network that of this stream."""
        if stream.delays is None:
            public("reset_delays")(self.nets[net])
        else:
            public("set_delay_state")(self.nets[net], stream.delays)

    def before(self, net: int, streams: list[Stream]) -> None:
        ways, (stream, *_) = self.ways, streams
        if len(streams) > 1:
            return
        stream.changed |= stream.net not in (net, -1) or self.broken
        self.broken = False
        if (ways == "needed" and stream.changed) or (
            ways == "all" and (stream.fresh or stream.changed or self.live.get(net) is not stream or stream.net != net)
        ):
            self.tell(net, stream)
        stream.changed = False

    def after(self, net: int, streams: list[Stream]) -> None:
        if self.ways in ("needed", "all") and len(streams) == 1:
            streams[0].delays = public("delay_state")(self.nets[net])

    def before_each(self, net: int, stream: Stream) -> None:
        """A functional forward passes a state that the neurons never see: each call has to be told."""
        if self.spec.form == FUNCTIONAL and self.ways in ("needed", "all"):
            if self.done:
                stream.delays = public("delay_state")(self.nets[net])
            self.tell(net, stream)

    def cut(self, stream: Stream, index: Any) -> None:
        ways = self.ways
        if ways == "after":
            stream.chosen.append(index)
        elif (ways == "all" or (ways and stream.changed)) and stream.delays is not None:
            net = next((net for net, live in self.live.items() if live is stream), None)
            if net is None:
                net = 0
                self.tell(net, stream)
            public("select_delays")(self.nets[net], index)
            self.live[net] = stream
            stream.delays = public("delay_state")(self.nets[net])
            stream.changed = False

    def detach(self, stream: Stream) -> None:
        if self.ways == "all" and stream.delays is not None:
            net = next((net for net, live in self.live.items() if live is stream), None)
            if net is not None:
                public("detach_delays")(self.nets[net])
                stream.delays = public("delay_state")(self.nets[net])
