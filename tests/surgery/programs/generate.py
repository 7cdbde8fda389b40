"""Programs from a source of choices: a random.Random, or hypothesis."""

import random
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from .kinds import KINDS, Kind
from .program import (
    CALL,
    ENCODE,
    FORWARD,
    FUNCTIONAL,
    LOOP,
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
    Network,
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

T = TypeVar("T")


class Choices(Protocol):
    def one_of(self, values: Sequence[T]) -> T: ...

    def integer(self, low: int, high: int) -> int: ...


class Drawn:
    """Choices by a random number generator."""

    def __init__(self, seed: object) -> None:
        self.random = random.Random(repr(seed))

    def one_of(self, values: Sequence[T]) -> T:
        return self.random.choice(list(values))

    def integer(self, low: int, high: int) -> int:
        return self.random.randint(low, high)


COPIED = ("mask", "index", "list", "permute", "repeat", "expand")
THEMES = (
    "one stream",
    "chunks",
    "chunks, detached",
    "streams in turns",
    "saved, same objects",
    "slices",
    "batch that shrinks",
    "split batch",
    "truncated backpropagation",
    "evaluated while training",
    "deep copies",
    "failed calls",
    "two streams in one call",
    "clones",
    "copied rows",
    "joined batches",
    "written in place",
    "moved between copies",
    "functional forward",
    "checkpointed",
    "touched",
    "copied layers",
    "unpickled",
    "everything",
)
FREE = THEMES[:10]
COPIES = ("deep copies", "unpickled", "moved between copies")
ALONE = (
    "one stream",
    "chunks",
    "chunks, detached",
    "slices",
    "truncated backpropagation",
    "copied rows",
    "failed calls",
)


def program(pick: Choices, theme: str | None = None) -> Program:
    theme = pick.one_of(THEMES) if theme is None else theme
    network = _network(pick, theme)
    grad = "grad" if theme in ("truncated backpropagation", "evaluated while training", "checkpointed") else None
    grad = grad or pick.one_of(("no_grad", "no_grad", "grad", "inference"))
    made = KINDS[network.kind]
    holds_graph = made.held or made.toolkit == "snntorch"  # a deep copy of the plain network fails, too
    if grad == "grad" and (theme in ("written in place", "everything") or (theme in COPIES and holds_graph)):
        grad = "no_grad"
    ways = ("", "", "", "needed", "all", *(() if theme == "failed calls" else ("after",)))
    ops = _both(pick) if theme == "two streams in one call" else _Walk(pick, theme, network, grad).ops()
    return Program(
        theme,
        network,
        tuple(ops),
        ways_out="" if theme == "two streams in one call" else pick.one_of(ways),
        grad=grad,
        record=pick.integer(0, 3) == 0,
        used=theme != "two streams in one call" and network.form != FUNCTIONAL and pick.integer(0, 5) == 0,
        checkpoint=theme == "checkpointed",
        seed=pick.integer(0, 99),
    )


def _network(pick: Choices, theme: str) -> Network:
    kind = pick.one_of(sorted(KINDS))
    made = KINDS[kind]
    forms = [STEP, STEP, LOOP, *OUTER]
    if theme in ("two streams in one call", "checkpointed"):
        kind = pick.one_of([name for name in sorted(KINDS) if not KINDS[name].held])
        made = KINDS[kind]
    if theme == "two streams in one call":
        forms = [f for f in TWO if not (made.sequence and f == TWO[1])]
    elif theme != "failed calls":
        in_turns = made.toolkit == "norse" and theme in FREE[:5]  # a container whose state has the delays' in it
        if in_turns or (made.held and "left" not in kind):
            forms += [SEQUENTIAL, SEQUENTIAL]
    if theme == "functional forward":
        kind = pick.one_of([k for k in sorted(KINDS) if KINDS[k].held and KINDS[k].toolkit == "spikingjelly"])
        made, forms = KINDS[kind], [FUNCTIONAL]
    if theme == "unpickled":  # surrogates of snnTorch and parameters of Norse cannot be pickled
        kind = pick.one_of([k for k in sorted(KINDS) if KINDS[k].toolkit == "spikingjelly"])
        made, forms = KINDS[kind], [STEP, LOOP, *OUTER]
    if theme == "batch that shrinks":
        kind = pick.one_of([k for k in sorted(KINDS) if not KINDS[k].sequence and KINDS[k].starts != ("reset",)])
        made, forms = KINDS[kind], [LOOP, *OUTER]
    form = pick.one_of(forms)
    layers = pick.integer(1, 2)
    starts = made.starts
    if theme == "batch that shrinks" and made.held:
        starts = tuple(s for s in starts if s not in ("reset", "tensor"))
    if form == SEQUENTIAL and not made.held:
        starts = ("none",)
    if theme not in ALONE:
        starts = tuple(s for s in starts if s != "tensor")  # one stream's reset would write over another's state
    if form not in (STEP, SEQUENTIAL) or theme in (*COPIES, "everything"):
        starts = tuple(s for s in starts if s != "utils")  # it does not know deep copies, nor neurons further inside
    between = "" if made.own_weights else pick.one_of(_between(made))
    # Without an example, the structure has to show which neuron a layer feeds.
    structural = made.own_weights or (not between and form == SEQUENTIAL)
    conv = not made.own_weights and made.toolkit != "norse" and pick.integer(0, 5) == 0
    return Network(
        kind,
        layers,
        bias=pick.integer(0, 1) == 0,
        conv=conv,
        between=between,
        delay=pick.integer(1, 4),
        start=pick.one_of(starts),
        form=form,
        keyword=not made.held and form != SEQUENTIAL and pick.integer(0, 3) == 0,
        on_outer=form not in OUTER or pick.integer(0, 2) > 0,
        example=not structural or pick.integer(0, 1) == 0,
        seed=pick.integer(0, 99),
    )


def _between(kind: Kind) -> list[str]:
    """A torch norm knows no time axis; SpikingJelly's does."""
    norms = [] if kind.sequence and kind.toolkit != "spikingjelly" else ["norm"]
    return ["", "", "", "", "identity", "dropout", "scale", *norms]


def _both(pick: Choices) -> list[Op]:
    ops: list[Op] = []
    for _ in range(pick.integer(1, 3)):
        batch = pick.integer(2, 3)
        ops += [Begin(0, batch), Begin(1, batch)]
        ops += [Both(0, 1, pick.integer(2, 5)) for _ in range(pick.integer(1, 2))]
    return ops


class _Walk:
    """Operations one after the other, each from those that the theme has."""

    def __init__(self, pick: Choices, theme: str, network: Network, grad: str) -> None:
        self.pick, self.theme, self.network, self.grad = pick, theme, network, grad
        self.begun: dict[int, int] = {}  # stream to batch
        self.home: dict[int, int] = {}  # the network that it runs on
        self.saved: dict[int, int] = {}
        self.saved_home: dict[int, int] = {}
        self.nets = 1

    def ops(self) -> list[Op]:
        pick = self.pick
        ops: list[Op] = [*self._begin(0, first=True), *self._run(0)]
        common: list[Callable[[], list[Op]]] = [self._run_any, self._run_any, self._run_any]
        own = {
            "one stream": [self._again],
            "chunks": [self._mode],
            "chunks, detached": [self._detach],
            "streams in turns": [self._switch, self._switch, self._again],
            "saved, same objects": [self._save, self._restore, self._restore, self._again],
            "slices": [self._slice, self._slice, self._again],
            "batch that shrinks": [self._shrink, self._shrink, self._again],
            "split batch": [self._split, self._slice, self._again],
            "truncated backpropagation": [self._train, self._train, self._again],
            "evaluated while training": [self._train, self._evaluate],
            "deep copies": [self._copy, self._copy, self._again, self._switch],
            "failed calls": [self._abort, self._abort, self._again],
            "clones": [self._clone, self._clone, self._again],
            "copied rows": [self._copied, self._copied, self._again],
            "joined batches": [self._join, self._switch],
            "written in place": [self._write, self._write, self._again],
            "functional forward": [self._detach, self._switch, self._save, self._restore, self._again],
            "checkpointed": [self._train, self._train, self._again],
            "copied layers": [self._copied_layer, self._again],
            "touched": [self._touch, self._touch, self._again, self._shape],
            "unpickled": [self._copy, self._copy, self._again, self._switch],
            "moved between copies": [self._copy, self._copy, self._again, self._switch],
            "everything": [
                *(self._again, self._detach, self._switch, self._save, self._restore, self._slice, self._split),
                *(self._clone, self._copied, self._join, self._write, self._copy),
            ],
        }[self.theme]
        for _ in range(pick.integer(2, 7)):
            ops += pick.one_of([*common, *own, *own])()
        number = pick.one_of(sorted(self.begun))
        return [*ops, *self._run(number)]

    def _steps(self) -> int:
        return self.pick.one_of((1, 1, 2, 3, 4))

    def _net(self) -> int:
        return self.pick.integer(0, self.nets - 1)

    def _begin(self, number: int, first: bool = False) -> list[Op]:
        batch = 3 if self.network.start == "tensor" else self.pick.one_of((3, 3, 2, 4))
        if self.begun and self.pick.integer(0, 1):
            batch = next(iter(self.begun.values()))
        self.begun[number] = batch
        how = "unused" if first and self.pick.integer(0, 1) and self.network.start in ("reset", "number") else "reset"
        self.home[number] = 0 if first else self._net()
        return [Begin(number, batch, how, self.home[number])]

    def _run(self, number: int) -> list[Op]:
        net = self._net() if self.theme == "moved between copies" else self.home.setdefault(number, 0)
        return [Run(number, self._steps(), net)]

    def _any(self) -> int:
        return self.pick.one_of(sorted(self.begun))

    def _run_any(self) -> list[Op]:
        return self._run(self._any())

    def _again(self) -> list[Op]:
        number = self._any()
        return [*self._begin(number), *self._run(number)]

    def _switch(self) -> list[Op]:
        other = self.pick.integer(0, 2)
        begins = [] if other in self.begun else self._begin(other)
        return [*begins, *self._run(other)]

    def _detach(self) -> list[Op]:
        return [Detach(self._any(), self.pick.one_of(("detach", "detach_", "data", "toolkit")))]

    def _save(self) -> list[Op]:
        number, slot = self._any(), self.pick.integer(0, 1)
        self.saved[slot], self.saved_home[slot] = self.begun[number], self.home[number]
        return [Save(number, slot)]

    def _restore(self, how: str = "same") -> list[Op]:
        if not self.saved:
            return self._save()
        slot, number = self.pick.one_of(sorted(self.saved)), self.pick.integer(0, 1)
        self.begun[number] = self.saved[slot]
        self.home[number] = self.saved_home[slot]
        return [Restore(number, slot, how), *self._run(number)]

    def _clone(self) -> list[Op]:
        number = self._any()
        if self.pick.integer(0, 1):
            self.saved[2], self.saved_home[2] = self.begun[number], self.home[number]
            return [Save(number, 2, "clone"), *self._run(number), Restore(number, 2), *self._run(number)]
        return [Save(number, 2), Restore(number, 2, "clone"), *self._run(number)]

    def _slice(self) -> list[Op]:
        number = self._any()
        batch = self.begun[number]
        start = self.pick.one_of((None, None, 0, 1)) if batch > 1 else None
        stop = self.pick.one_of((None, batch - 1, batch)) if batch > 2 else None
        step = self.pick.one_of((None, None, None, 2))
        self.begun[number] = len(range(batch)[start:stop:step])
        return [Cut(number, "slice", (start, stop, step)), *self._run(number)]

    def _shrink(self) -> list[Op]:
        number = self._any()
        batch = self.begun[number]
        sizes = sorted((self.pick.integer(1, batch) for _ in range(self.pick.integer(2, 6))), reverse=True)
        self.begun[number] = sizes[-1]
        return [Shrink(number, tuple(sizes), self.home[number]), *self._run(number)]

    def _touch(self) -> list[Op]:
        hows = ["eval", "train", "to", "load", "hooks"] + (["no_grad", "grad"] if self.grad == "grad" else [])
        return [Touch(self.pick.one_of(hows)), *self._run_any()]

    def _copied_layer(self) -> list[Op]:
        return [Touch("layer"), *(self._again() if self.pick.integer(0, 1) else self._run_any())]

    def _shape(self) -> list[Op]:
        kind, number = KINDS[self.network.kind], self._any()
        if not kind.held or self.network.form not in (STEP, SEQUENTIAL) or self.network.start not in ("reset", "utils"):
            return self._again()
        self.begun[number] = self.begun[number] % 4 + 1
        return [Begin(number, self.begun[number], "shape", self.home[number]), *self._run(number)]

    def _mode(self) -> list[Op]:
        if self.network.form not in (STEP, SEQUENTIAL) or KINDS[self.network.kind].toolkit != "spikingjelly":
            return self._run_any()
        return [Mode(self.pick.one_of("sm"))] if KINDS[self.network.kind].held else self._run_any()

    def _copied(self) -> list[Op]:
        number = self._any()
        batch = self.begun[number]
        how = self.pick.one_of(COPIED if batch == 1 else COPIED[:-1])
        size = {"expand": self.pick.integer(2, 3), "permute": batch, "repeat": self.pick.integer(2, 5)}.get(
            how, self.pick.integer(1, batch)
        )
        index = tuple(0 if how == "expand" else self.pick.integer(0, batch - 1) for _ in range(size))
        self.begun[number] = len(set(index)) if how == "mask" else size
        return [Cut(number, how, index), *self._run(number)]

    def _split(self) -> list[Op]:
        number = self._any()
        batch = self.begun[number]
        if batch < 2:
            return self._run(number)
        other, rows = (number + 1) % 3, self.pick.integer(1, batch - 1)
        self.home[other] = self.home.get(number, 0)
        self.begun[number], self.begun[other] = rows, batch - rows
        return [Split(number, other, rows), *self._run(other), *self._run(number)]

    def _join(self) -> list[Op]:
        if len(self.begun) < 2:
            return self._switch()
        one, other = sorted(self.begun)[:2]
        if self.begun[one] + self.begun[other] > 6 or self.home[one] != self.home[other]:
            return self._switch()
        self.begun[one] += self.begun.pop(other)
        return [Join(one, other), *self._run(one)]

    def _write(self) -> list[Op]:
        number = self._any()
        return [Write(number, self.pick.one_of(("scale", "row", "zero"))), *self._run(number)]

    def _train(self) -> list[Op]:
        number = self._any()
        return [*self._run(number), Train(number, self.pick.one_of(("detach", "detach_", "data", "toolkit")))]

    def _evaluate(self) -> list[Op]:
        return [Evaluate(self._any(), self._steps())]

    def _copy(self) -> list[Op]:
        if self.nets > 2:
            return self._run_any()
        self.nets += 1
        number = self._any()
        net = self.home[number]
        other = (number + 1) % 3
        if self.pick.integer(0, 2) == 0:
            return [Copy(net), *self._run_any()]
        self.begun[other], self.home[other] = self.begun[number], self.nets - 1
        steps = self._steps()
        how = "pickle" if self.theme == "unpickled" else "deepcopy"
        return [Run(number, steps, net), Copy(net, (number, other), how), Run(other, self._steps(), self.nets - 1)]

    def _abort(self) -> list[Op]:
        number = self._any()
        steps = self._steps()
        at = self.pick.integer(0, steps * self.network.layers - 1)
        again = self._again() if self.pick.integer(0, 2) else self._run(number)
        return [Abort(number, steps, at, self.pick.one_of(("between", "after"))), *again]


__all__ = ["CALL", "ENCODE", "FORWARD", "THEMES", "Choices", "Drawn", "program"]
