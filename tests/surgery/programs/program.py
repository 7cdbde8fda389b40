"""A program as data: a network, how it is wrapped and how it is driven."""

from dataclasses import dataclass

# How the forward that the program calls is written.
STEP = "step"  # one step per call; of a neuron that takes sequences, one chunk
SEQUENTIAL = "sequential"  # the same, as nn.Sequential (held states) or norse.SequentialState
LOOP = "loop"  # the loop over the steps is in the forward, which makes the states if it gets none
CALL, FORWARD, ENCODE = "call", "forward", "encode"  # an outer module calls inner(x), inner.forward(x), inner.encode(x)
PAIR, ALTERNATE = "pair", "alternate"  # two streams in one forward: one after the other, or step by step in turns
FUNCTIONAL = "functional"  # SpikingJelly's to_functional_forward
OUTER = (CALL, FORWARD, ENCODE)
TWO = (PAIR, ALTERNATE)


@dataclass(frozen=True)
class Network:
    """`start`: where a state comes from, see `networks.Net.begin`. `delay`: of each layer, in steps."""

    kind: str
    layers: int = 1
    bias: bool = True
    conv: bool = False
    between: str = ""
    delay: int = 2
    start: str = "none"
    form: str = STEP
    on_outer: bool = True  # add_delays(outer), not add_delays(outer.inner)
    example: bool = False
    keyword: bool = False  # states are passed to the neurons by keyword
    seed: int = 0


@dataclass(frozen=True)
class Begin:
    """A sequence of a stream begins.

    `how`: "reset" as the toolkit does it, "unused" (the first call of a network), "shape" (a batch of another size).
    """

    stream: int
    batch: int = 3
    how: str = "reset"
    net: int = 0


@dataclass(frozen=True)
class Run:
    stream: int
    steps: int
    net: int = 0


@dataclass(frozen=True)
class Shrink:
    """One call in which sequences end one after the other: the batch has `sizes[t]` rows at step t."""

    stream: int
    sizes: tuple[int, ...]
    net: int = 0


@dataclass(frozen=True)
class Touch:
    """`how`: "eval", "train", "to" (the same device), "load" (its own state_dict), "hooks", "no_grad", "grad", or
    "layer": deep copies of the layers stand in their places.
    """

    how: str


@dataclass(frozen=True)
class Mode:
    """SpikingJelly's set_step_mode in the middle of a sequence."""

    mode: str


@dataclass(frozen=True)
class Both:
    """One call of a network that takes two streams; they begin inside of it, or go on with their states."""

    first: int
    second: int
    steps: int
    net: int = 0


@dataclass(frozen=True)
class Detach:
    """`how`: "detach" (new tensors), "detach_" (in place), "data", "toolkit" (its own function)."""

    stream: int
    how: str = "detach"


@dataclass(frozen=True)
class Save:
    """Remember the state of a stream: the same objects, or "clone"s of them."""

    stream: int
    slot: int
    how: str = "same"


@dataclass(frozen=True)
class Restore:
    stream: int
    slot: int
    how: str = "same"


@dataclass(frozen=True)
class Cut:
    """Other rows of the batch. `how`: "slice", "mask", "index", "list", "permute", "repeat", "expand", "narrow"."""

    stream: int
    how: str
    index: tuple[int | None, ...]


@dataclass(frozen=True)
class Split:
    """The batch of a stream in two: `stream` keeps the first rows and `other` has the rest, both as slices."""

    stream: int
    other: int
    rows: int


@dataclass(frozen=True)
class Join:
    """The batches of two streams in one, by torch.cat; `other` ends."""

    stream: int
    other: int


@dataclass(frozen=True)
class Write:
    """Values written in place. `how`: "scale", "row" (the sequence goes on), "zero" (it begins)."""

    stream: int
    how: str = "scale"


@dataclass(frozen=True)
class Train:
    """Backward from the outputs since the last training, an optimizer's step, and the state detached."""

    stream: int
    how: str = "detach"


@dataclass(frozen=True)
class Evaluate:
    """A sequence of its own in eval() and without gradients; `stream` goes on afterwards with its state."""

    stream: int
    steps: int


@dataclass(frozen=True)
class Copy:
    """A deep copy of network `net`, which gets the next number.

    `goes`: stream `goes[0]` goes on with the original, and as stream `goes[1]` with the copy, which is given the state
    that the caller has, or has its own copy of it.
    """

    net: int = 0
    goes: tuple[int, int] | None = None
    how: str = "deepcopy"  # or "pickle"


@dataclass(frozen=True)
class Abort:
    """A call that fails in the middle, "between" layer and neuron or "after" a neuron; the state is as before."""

    stream: int
    steps: int
    at: int
    where: str


Op = (
    Begin
    | Run
    | Shrink
    | Mode
    | Both
    | Detach
    | Save
    | Restore
    | Cut
    | Split
    | Join
    | Write
    | Train
    | Evaluate
    | Copy
    | Abort
)


@dataclass(frozen=True)
class Program:
    """`ways_out`: "" calls none, "needed" where the states cannot be followed, "all" at every beginning and change,
    "after" only after an error, and then repeats what failed.

    `grad`: "grad", "no_grad" or "inference". `record`: keep every state, as mem_rec.append(mem) does.
    """

    theme: str
    network: Network
    ops: tuple[Op, ...]
    ways_out: str = ""
    grad: str = "no_grad"
    record: bool = False
    used: bool = False  # the network ran before it got its delays
    checkpoint: bool = False  # torch.utils.checkpoint around each call
    seed: int = 0


def text(program: Program) -> str:
    """A program as lines that read like Python."""
    n = program.network
    shape = f"{n.layers} {'conv' if n.conv else 'linear'} layer(s){'' if n.bias else ' without bias'}"
    lines = [
        f"# {program.theme}, seed {program.seed}, {program.grad}{', every state recorded' if program.record else ''}"
        f"{', checkpointed' if program.checkpoint else ''}{', ran before it got delays' if program.used else ''}",
        f"net = {n.kind}: {shape}, between: {n.between or 'nothing'}, start: {n.start}, form: {n.form}"
        f"{', states by keyword' if n.keyword else ''}, seed {n.seed}",
        f"add_delays({'net' if n.on_outer else 'net.inner'}, init={n.delay}{', example=x' if n.example else ''})"
        f"   # ways out called: {program.ways_out or 'none'}",
    ]
    return "\n".join([*lines, *(_line(op) for op in program.ops)])


def _line(op: Op) -> str:
    a = lambda i: "abcdefgh"[i]  # noqa: E731
    net = lambda i: f"net{i or ''}"  # noqa: E731
    match op:
        case Begin(s, batch, how, n):
            return f"{a(s)} = {net(n)}.begin(batch={batch}, {how!r})"
        case Run(s, steps, n):
            return f"{a(s)} = {net(n)}.run({a(s)}, {steps} steps)"
        case Shrink(s, sizes, n):
            return f"{a(s)} = {net(n)}.run({a(s)}, {len(sizes)} steps, rows at each step: {sizes})"
        case Mode(mode):
            return f"set_step_mode(net, {mode!r})"
        case Both(s, r, steps, n):
            return f"{a(s)}, {a(r)} = {net(n)}({a(s)}, {a(r)}, {steps} steps)"
        case Detach(s, how):
            return f"{a(s)}.{how}()"
        case Save(s, slot, how):
            return f"saved[{slot}] = {a(s)}{'.clone()' if how == 'clone' else ''}"
        case Restore(s, slot, how):
            return f"{a(s)} = saved[{slot}]{'.clone()' if how == 'clone' else ''}"
        case Cut(s, how, index):
            return f"{a(s)} = {a(s)}[{how} {index}]"
        case Split(s, r, rows):
            return f"{a(s)}, {a(r)} = {a(s)}[:{rows}], {a(s)}[{rows}:]"
        case Join(s, r):
            return f"{a(s)} = cat([{a(s)}, {a(r)}])"
        case Write(s, how):
            return f"{a(s)}: written in place: {how}"
        case Train(s, how):
            return f"loss({a(s)}).backward(); optimizer.step(); {a(s)}.{how}()"
        case Evaluate(s, steps):
            return f"eval(): another sequence of {steps} steps; train(): {a(s)} goes on"
        case Touch(how):
            return f"touched: {how}"
        case Copy(n, goes, how):
            forked = f"; {a(goes[1])} = {a(goes[0])}, on the copy" if goes else ""
            return f"nets.append({'deepcopy' if how == 'deepcopy' else 'unpickled'}({net(n)})){forked}"
        case Abort(s, steps, at, where):
            return f"run({a(s)}, {steps} steps) fails at {at} {where}"
