"""What the input of each module, and the output of the model, consist of, as a run of the model showed."""

import itertools
from collections.abc import Sequence

from ..errors import ExchangeError
from ..neurons.cell import Cell
from ..surgery.inventory import Network
from ..toolkits.capabilities import exchanges
from .observe import INPUT, STATE, Followed, Mark, Run

ASK_OUTPUT = "name the neurons or layers whose results are the output: outputs=['...']"
_ONLY_FEED_FORWARD = "only feed-forward networks can be exchanged"


def input_marks(network: Network, run: Run) -> dict[str, Mark]:
    """For each module that ran, what its input is made of.

    Raises:
        ExchangeError: it is not a sum of results of modules that run before it, or not the same at each call.
    """
    marks: dict[str, Mark] = {}
    for name, calls in run.calls.items():
        recurrent = name in network.recurrent
        if recurrent or network.own_weights.recurrent_layer(network.modules[name]) is not None:
            raise ExchangeError(f"{name} ({_kind(network, name)}) feeds spikes back: {_ONLY_FEED_FORWARD}")
        marks[name] = _input_mark(network, name, calls, run)
    order = list(run.calls)
    for place, name in enumerate(order):
        late = [part for part in marks[name].parts if part in order[place:]]
        if late:
            raise ExchangeError(
                f"{name} is fed by {', '.join(late)}, which runs after it: a recurrent connection; {_ONLY_FEED_FORWARD}"
            )
    return marks


def output_names(network: Network, run: Run, marks: dict[str, Mark], wanted: Sequence[str] | None) -> list[str]:
    """The modules whose results, added, are the output.

    Args:
        network: the model.
        run: of it.
        marks: of the inputs of its modules.
        wanted: the user's answer; None to take what the model returns, or, if it returns nothing, the module that feeds
            nothing.

    Raises:
        ExchangeError: none or several results could be the output, or one that was asked for did not run.
    """
    if wanted is None:
        return _returned(network, run, marks)
    for name in wanted:
        if name not in run.calls:
            raise ExchangeError(f"outputs: {name} is no layer or neuron that ran; those are {', '.join(run.calls)}")
    return list(wanted)


def module_of(part: str) -> str:
    """The module that a part of a mark comes from, by its result or its state."""
    return part.removeprefix(STATE)


# ---------------------------------------------------------------------------------------------------- inputs


def _undescribed(network: Network, run: Run) -> ExchangeError | None:
    """Why a neuron that ran without being called, as those of the benchmark may, cannot be exchanged; None if all can.

    Its operations are then seen as some of the model's own, and the neuron is the better reason.
    """
    for name in network.neurons:
        try:
            _cell(network, name)
        except ExchangeError as error:
            return None if name in run.calls else error
    return None


def _input_mark(network: Network, name: str, calls: Followed, run: Run) -> Mark:
    first = calls.marks[0]
    if first is None:
        raise ExchangeError(f"the input of {name} comes neither from that of the model nor from another of its modules")
    for mark in calls.marks:
        if mark is not None and mark.other:
            raise _undescribed(network, run) or ExchangeError(
                f"before {name}: {mark.other} has no counterpart in a graph"
            )
        for part in mark.parts if mark is not None else ():
            if not _is_result(network, part):
                raise ExchangeError(f"{name} takes {_described(network, part)}")
        if mark != first:
            raise ExchangeError(
                f"the input of {name} comes from elsewhere at some of its calls: it is shared, or something flows back "
                "in time. Only feed-forward networks in which every module has one place can be exchanged"
            )
    return first


def _is_result(network: Network, part: str) -> bool:
    """Whether a part is what the node of its module computes: spikes of a neuron, the membrane of a readout."""
    name = module_of(part)
    neuron = network.neurons.get(name)
    if neuron is None:
        return not part.startswith(STATE)
    # A neuron may return spikes, and behind them the membrane that is never reset.
    spikes_first = network.toolkit.is_spiking(neuron) and _cell(network, name).threshold is None
    return part.startswith(STATE) == spikes_first


def _described(network: Network, part: str) -> str:
    """A part that is no result of a node, for an error."""
    name = module_of(part)
    if part.startswith(STATE):
        return f"the state of {name}, such as its membrane, where a graph has the spikes of a neuron that resets"
    if name in network.neurons:
        return f"the spikes of {name}, which never resets, where a graph has its membrane"
    return name


def _cell(network: Network, name: str) -> Cell:
    try:
        return exchanges(network.toolkit).describe(network.neurons[name])
    except ExchangeError as error:
        raise ExchangeError(f"{name} ({_kind(network, name)}): {error}") from None


def _kind(network: Network, name: str) -> str:
    return type(network.modules[name]).__name__


# --------------------------------------------------------------------------------------------------- outputs


def _returned(network: Network, run: Run, marks: dict[str, Mark]) -> list[str]:
    used = {module_of(part) for mark in marks.values() for part in mark.parts}
    sinks = [name for name in run.calls if name not in used]
    results: list[Mark] = []
    for mark in itertools.chain.from_iterable(run.results):
        if mark is not None and mark not in results:  # a readout gives its membrane twice
            results.append(mark)
    if not results:
        if len(sinks) > 1:
            raise ExchangeError(f"{', '.join(sinks)} feed nothing, and the model returns nothing: {ASK_OUTPUT}")
        return sinks

    def is_output(mark: Mark) -> bool:
        return not mark.other and INPUT not in mark.parts and all(_is_result(network, part) for part in mark.parts)

    outputs = [mark for mark in results if is_output(mark)]
    if len(outputs) > 1:  # such as the spikes of every layer
        outputs = [mark for mark in outputs if {*map(module_of, mark.parts)} <= set(sinks)] or outputs
    if len(outputs) > 1:
        several = " and ".join(" + ".join(mark.parts) for mark in outputs)
        raise ExchangeError(f"the model returns several results, {several}: {ASK_OUTPUT}")
    if not outputs:
        reasons = [m.other or " + ".join(_described(network, part) for part in m.parts) for m in results]
        raise ExchangeError(f"the model returns what a graph does not have: {'; '.join(reasons)}. Please {ASK_OUTPUT}")
    (output,) = outputs
    if any(factor != 1 for factor in output.parts.values()):
        raise ExchangeError(f"the model returns a multiple of {' + '.join(output.parts)}: {ASK_OUTPUT}")
    return [*map(module_of, output.parts)]
