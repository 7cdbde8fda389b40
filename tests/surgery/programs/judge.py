"""Runs a program on the plain network and on the delayed one, and says what came of it."""

import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch.utils.checkpoint import CheckpointError

from delayplug import ArgumentError, SequenceError, WiringError

from .drive import SenselessError, UnavailableError
from .kinds import KINDS
from .program import (
    ENCODE,
    FUNCTIONAL,
    OUTER,
    STEP,
    TWO,
    Abort,
    Begin,
    Copy,
    Cut,
    Join as Joined,
    Mode,
    Op,
    Program,
    Restore,
    Run,
    Save,
    Touch,
    Train,
    Write,
)
from .runs import Delayed, MismatchError, Plain

EQUAL, REFUSED, WRONG, CRASH, INVALID = "equal", "refused", "WRONG", "crash", "invalid"
# Wrong, where a copy of a quiet neuron's state was put back: bit by bit the state of a beginning.
TWIN = "twin"


@dataclass(frozen=True)
class Verdict:
    """`reason`: the first words of a refusal or a crash, or what is wrong. `at`: the number of the operation."""

    result: str
    reason: str = ""
    at: int = -1
    may_refuse: bool = False


def reasons_to_refuse(program: Program) -> set[str]:
    """What in a program may be refused, unless it calls the ways out."""
    found: set[str] = set()
    homes: dict[int, int] = {}
    for op in program.ops:
        match op:
            case Save(how="clone") | Restore(how="clone"):
                found.add("clone")
            case Cut(how=how) if how != "slice":
                found.add("copied rows")
            case Joined():
                found.add("joined batches")
            case Write():
                found.add("written in place")
            case Run(stream=stream, net=net):
                moved = homes.setdefault(stream, net) != net
                found |= {"moved between copies"} if moved else set()
            case Copy(how="pickle"):
                found.add("unpickled")
            case Touch(how="layer"):
                found.add("copied layer")
            case Abort():
                found.add("failed call")
            case Begin(stream=stream):
                homes.pop(stream, None)
    start, form = program.network.start, program.network.form
    if start in ("put", "filled") or (start in ("constant", "one constant", "buffer", "computed") and form == STEP):
        found.add("start value of the user's, by step")
    if not KINDS[program.network.kind].held and program.network.between in ("norm", "scale"):
        found.add("something between layer and neuron")  # what a layer computed cannot be replaced
    if program.checkpoint:
        found.add("computed twice")
    if form == FUNCTIONAL:
        found.add("functional forward")
    return found


def judge(program: Program) -> Verdict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _judge(program)


def _judge(program: Program) -> Verdict:
    try:
        plain = Plain(program)
        plain.run()
    except SenselessError:
        return Verdict(INVALID, "makes no sense")
    except Exception as error:
        return Verdict(INVALID, f"the plain network: {type(error).__name__}: {str(error)[:90]}")
    quiet = plain.quiet and _by_values(program)
    ways = program.ways_out in ("needed", "all")
    may = not ways and (bool(reasons_to_refuse(program)) or quiet)
    may |= program.checkpoint  # what is computed a second time was not told a second time
    may |= any(isinstance(op, Joined) for op in program.ops)
    may |= program.ways_out == "needed" and quiet
    joined = any(isinstance(op, Joined) for op in program.ops)
    delayed = None
    try:
        delayed = Delayed(program, plain.records)
        delayed.run()
    except Exception as error:
        at = delayed.at if delayed else -1
        if isinstance(error, UnavailableError):
            return Verdict(REFUSED, f"not available: {error}", may_refuse=True)
        if isinstance(error, SequenceError):
            named = any(name in str(error) for name in ("reset_delays", "set_delay_state", "select_delays"))
            words = _words(error) if named else f"[no way out is named] {_words(error)}"
            said = Verdict(REFUSED, words, at, may)
            return said if delayed is None else _recovered(program, delayed, said)
        if isinstance(error, MismatchError):
            return Verdict(TWIN if plain.twin else WRONG, str(error), at)
        if isinstance(error, CheckpointError):
            return Verdict(REFUSED, f"torch.utils.checkpoint: {_words(error)}", at, may_refuse=True)
        if isinstance(error, ArgumentError) and joined:
            return Verdict(REFUSED, _words(error), at, may_refuse=True)
        if isinstance(error, WiringError) and isinstance(error.__cause__, SequenceError):
            may |= program.network.form in TWO and _by_values(program)  # its example may be quiet, too
            return Verdict(REFUSED, f"add_delays: {_words(error)}", at, may)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
        return Verdict(CRASH, f"{type(error).__name__} at {where}: {_words(error)}", at)
    return Verdict(EQUAL)


def _recovered(program: Program, delayed: Delayed, said: Verdict) -> Verdict:
    """The verdict of a refused program, unless after `reset_delays` a new sequence is not right."""
    # What is written to a state can reach a start value of the network that the state still has.
    if any(isinstance(op, Train | Copy | Mode | Write) for op in program.ops) or program.network.form in TWO:
        return said
    if program.network.start == "utils":  # snntorch.utils.reset knows only the networks that were made last
        return said
    functional = program.network.form == FUNCTIONAL
    batch = next(op.batch for op in program.ops if isinstance(op, Begin))
    simple = replace(program, ops=(Begin(0, batch), Run(0, 4)), ways_out="")
    try:
        plain = Plain(simple)
        plain.run()
        delayed.recover([plain.records], batch)
    except MismatchError as error:
        return Verdict(WRONG, f"a new sequence after an error: {error}", said.at)
    except SequenceError as error:
        return replace(said, reason=f"after reset_delays: {_words(error)}", may_refuse=said.may_refuse and functional)
    except Exception as error:
        return replace(said, result=CRASH, reason=f"after an error: {type(error).__name__}: {_words(error)}")
    return said


def _by_values(program: Program) -> bool:
    """Whether a beginning shows only in the values of a state that is passed: zeros that nobody has seen."""
    n = program.network
    if n.start not in ("zeros", "one zeros", "constant", "computed"):
        return False
    return n.form in TWO or n.form == STEP or n.form == ENCODE or (n.form in OUTER and not n.on_outer)


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    for name in ("Delayed", *(kind.split()[1] for kind in KINDS), "Fatigue", "HeldFatigue", "Slow", "DictCell"):
        text = text.replace(f"{name} ", "N ")
    return text.replace("DelayedN", "N")[:110]


def style(program: Program) -> str:
    return program.theme + (f" + ways out ({program.ways_out})" if program.ways_out else "")


def shrunk(program: Program, verdict: Verdict) -> tuple[Program, Verdict]:
    """A smaller program with the same kind of result, found by leaving things out one at a time."""
    tries = 0
    better = True
    while better and tries < 400:
        better = False
        for candidate in islice(_smaller(program), 120):
            tries += 1
            new = judge(candidate)
            same = new.result == WRONG or new.reason[:20] == verdict.reason[:20]
            if new.result == verdict.result and new.may_refuse == verdict.may_refuse and same:
                program, verdict, better = candidate, new, True
                break
    return program, verdict


def _smaller(program: Program) -> Iterator[Program]:
    ops, n = program.ops, program.network
    for i in reversed(range(len(ops))):
        yield replace(program, ops=(*ops[:i], *ops[i + 1 :]))
    simpler = (("layers", 1), ("conv", False), ("between", ""), ("bias", True), ("example", False), ("keyword", False))
    for name, value in (*simpler, ("start", "none"), ("start", "zeros"), ("start", "reset"), ("delay", 1)):
        simple = name == "start" and (n.start in ("none", "zeros", "reset") or value not in KINDS[n.kind].starts)
        if getattr(n, name) != value and not simple:
            yield replace(program, network=replace(n, **{name: value}))
    for name in ("record", "used", "checkpoint"):
        if getattr(program, name):
            yield replace(program, **{name: False})
    if program.grad != "no_grad":
        yield replace(program, grad="no_grad")
    for i, op in enumerate(ops):
        if getattr(op, "steps", 1) > 1:
            yield replace(program, ops=(*ops[:i], _one_less(op), *ops[i + 1 :]))


def _one_less(op: Op) -> Op:
    return replace(op, steps=op.steps - 1)


def quick() -> None:
    """Small tensors: one thread is fastest."""
    torch.set_num_threads(1)
