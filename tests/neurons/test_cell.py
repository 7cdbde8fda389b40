"""Neurons in numbers: each toolkit computes what it describes, and builds what others describe."""

from typing import Any

import norse.torch as norse
import pytest
import snntorch as snn
import torch
from hypothesis import given, settings, strategies as st
from norse.torch.functional.reset import reset_subtract
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from delayplug import Cell, ExchangeError, Reset
from delayplug.exchange.to_module import run_neuron
from delayplug.toolkits import plugins
from tests.devices import DEVICE
from tests.exchange.models import TOOLKITS, reference
from tests.profiles import examples

t = torch.tensor

NEURONS: dict[str, tuple[str, Any]] = {
    "Leaky to zero, late": ("snntorch", lambda: snn.Leaky(beta=0.75, reset_mechanism="zero")),
    "Leaky to zero": ("snntorch", lambda: snn.Leaky(beta=0.75, reset_mechanism="zero", reset_delay=False)),
    "Leaky, default": ("snntorch", lambda: snn.Leaky(beta=0.5)),
    "Leaky per neuron": ("snntorch", lambda: snn.Leaky(t([0.5, 0.25]), t([1.0, 1.5]), reset_mechanism="zero")),
    "Leaky without leak": ("snntorch", lambda: snn.Leaky(beta=1.0, reset_mechanism="zero")),
    "Synaptic": ("snntorch", lambda: snn.Synaptic(alpha=0.5, beta=0.75, reset_mechanism="zero", reset_delay=False)),
    "LIFBoxCell": ("norse", lambda: norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=t(250.0)))),
    "LIFBoxCell that rests elsewhere": (
        "norse",
        lambda: norse.LIFBoxCell(norse.LIFBoxParameters(t(0.5), t(0.25), t(0.5), t(-0.25)), dt=1.0),
    ),
    "LIFBoxCell by subtraction": (
        "norse",
        lambda: norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=t(0.5), reset_method=reset_subtract), dt=1.0),
    ),
    "LIFCell": ("norse", lambda: norse.LIFCell(norse.LIFParameters(t(0.5), t(0.25)), dt=1.0)),
    "LIF": ("norse", lambda: norse.LIF(norse.LIFParameters(t(0.5), t(0.25)), dt=1.0)),
    "LIBoxCell": ("norse", lambda: norse.LIBoxCell(norse.LIBoxParameters(t(0.5)), dt=1.0)),
    "LICell": ("norse", lambda: norse.LICell(norse.LIParameters(t(0.5), t(0.25)), dt=1.0)),
    "IAFCell": ("norse", lambda: norse.IAFCell(norse.IAFParameters())),
    "LIFNode": ("spikingjelly", lambda: neuron.LIFNode(tau=2.0)),
    "LIFNode, input as it is": ("spikingjelly", lambda: neuron.LIFNode(tau=4.0, decay_input=False)),
    "LIFNode, soft": ("spikingjelly", lambda: neuron.LIFNode(tau=2.0, v_reset=None, step_mode="m")),
    "LIFNode that rests elsewhere": ("spikingjelly", lambda: neuron.LIFNode(tau=2.0, v_reset=-0.25)),
    "IFNode": ("spikingjelly", lambda: neuron.IFNode(v_threshold=1.5)),
    "IFNode, soft": ("spikingjelly", lambda: neuron.IFNode(v_reset=None)),
    "ParametricLIFNode": ("spikingjelly", lambda: neuron.ParametricLIFNode(init_tau=2.0)),
    "CUBALIFNode": ("spikingjelly", lambda: neuron.CUBALIFNode(c_decay=0.5, v_decay=0.75)),
    "NonSpikingLIFNode": ("spikingjelly", lambda: neuron.NonSpikingLIFNode(tau=4.0)),
    "NonSpikingIFNode": ("spikingjelly", lambda: neuron.NonSpikingIFNode()),
}


def currents(cell: Cell, steps: int = 8, batch: int = 3) -> Tensor:
    """Multiples of 1/4, (T, B, 2), so that membranes come to thresholds exactly, and make the cell fire."""
    x = torch.randint(-3, 8, (steps, batch, 2), generator=torch.Generator().manual_seed(3)) / 4
    return x / cell.gain.float()


def build_scaled(toolkit: Any, cell: Cell) -> tuple[nn.Module, Tensor]:
    """A neuron for the cell, and what its input has to be multiplied with."""
    gains = toolkit.gains(cell)
    gain = next((gain for gain in gains if Cell.close(cell.gain, gain)), gains[0])
    return toolkit.build(Cell(**{**cell.__dict__, "gain": gain})).to(DEVICE), (cell.gain / gain).to(DEVICE)


def same(a: Tensor, b: Tensor, cell: Cell) -> None:
    if cell.threshold is None:
        torch.testing.assert_close(a, b.to(a.dtype), atol=1e-5, rtol=1e-5)
    else:
        assert 0 < a.mean() < 1
        assert torch.equal(a, b.to(a.dtype))


@pytest.mark.parametrize("name", NEURONS)
def test_a_neuron_computes_what_it_describes(name: str) -> None:
    backend, make = NEURONS[name]
    toolkit = plugins.toolkit(backend)
    made = make()
    cell = toolkit.describe(made)
    x = currents(cell)
    with torch.no_grad():
        same(run_neuron(toolkit, made, x), reference(cell, x), cell)


# What a toolkit has no neuron for, and a word of the reason.
IMPOSSIBLE = {
    ("Leaky, default", "norse"): "rule",
    ("Leaky, default", "spikingjelly"): "rule",
    ("Leaky per neuron", "spikingjelly"): "one leak",
    ("LIFBoxCell that rests elsewhere", "snntorch"): "rest of zero",
    ("LIFBoxCell that rests elsewhere", "spikingjelly"): "where it rests",
    ("LIFBoxCell by subtraction", "snntorch"): "rule",
    ("LICell", "spikingjelly"): "no current",
    ("LIFNode, soft", "snntorch"): "rule",
    ("LIFNode that rests elsewhere", "snntorch"): "rest of zero",
    ("IFNode, soft", "snntorch"): "rule",
    ("IFNode, soft", "norse"): "reset to a value",
    ("NonSpikingIFNode", "norse"): "leaks",
}


@pytest.mark.parametrize("backend", TOOLKITS)
@pytest.mark.parametrize("name", NEURONS)
def test_another_toolkit_builds_it_or_says_why_not(name: str, backend: str) -> None:
    home, make = NEURONS[name]
    cell, toolkit = plugins.toolkit(home).describe(make()), plugins.toolkit(backend)
    x = currents(cell)
    if (name, backend) in IMPOSSIBLE:
        with pytest.raises(ExchangeError, match=IMPOSSIBLE[name, backend]):
            build_scaled(toolkit, cell)
        return
    made, scale = build_scaled(toolkit, cell)
    with torch.no_grad():
        same(run_neuron(toolkit, made, x * scale.float()), reference(cell, x), cell)
    again = toolkit.describe(made)
    for word in ("leak", "rest", "threshold", "reset", "synapse"):
        before, after = getattr(cell, word), getattr(again, word)
        assert (before is None) == (after is None), word
        assert before is None or torch.allclose(before, after, rtol=1e-6, atol=1e-7), word
    assert again.rule == cell.rule


@settings(max_examples=examples(60))
@given(
    leak=st.sampled_from([0.125, 0.25, 0.5, 0.75]),
    threshold=st.integers(1, 12).map(lambda n: n / 8),
    synapse=st.none() | st.sampled_from([0.25, 0.5]),
    one=st.booleans(),
    seed=st.integers(0, 99),
)
def test_all_toolkits_compute_any_cell_alike(
    leak: float, threshold: float, synapse: float | None, one: bool, seed: int
) -> None:
    gain = 1.0 if one else leak
    cell = Cell.of(leak=leak, gain=gain, threshold=threshold, synapse=synapse)
    x = torch.randint(-3, 8, (6, 2, 2), generator=torch.Generator().manual_seed(seed)) / 4
    wanted = reference(cell, x)
    for backend in TOOLKITS:
        toolkit = plugins.toolkit(backend)
        made, scale = build_scaled(toolkit, cell)
        with torch.no_grad():
            assert torch.equal(run_neuron(toolkit, made, x * scale.float()).double(), wanted), backend


@pytest.mark.parametrize(
    ("backend", "make", "reason"),
    [
        ("snntorch", lambda: snn.Leaky(0.5, inhibition=True), "inhibition"),
        ("snntorch", lambda: snn.Leaky(0.5, graded_spikes_factor=2.0), "graded"),
        ("snntorch", lambda: snn.Leaky(0.5, threshold=-1.0), "below zero"),
        ("snntorch", lambda: snn.Alpha(alpha=0.9, beta=0.8), "Leaky and Synaptic"),
        ("norse", lambda: norse.LIFRefracCell(), "LIF, LI and IAF"),
        ("spikingjelly", lambda: neuron.EIFNode(), "LIFNode"),
        ("spikingjelly", lambda: neuron.NonSpikingLIFNode(decode="max-mem"), "decode"),
        ("spikingjelly", lambda: neuron.CUBALIFNode(v_reset=-0.5), "v_reset"),
    ],
)
def test_what_has_no_numbers_is_refused(backend: str, make: Any, reason: str) -> None:
    with pytest.raises(ExchangeError, match=reason):
        plugins.toolkit(backend).describe(make())


@pytest.mark.parametrize(
    "numbers", [{"leak": 1.5}, {"leak": -0.1}, {"gain": float("nan")}, {"threshold": float("inf")}]
)
def test_a_cell_checks_its_numbers(numbers: dict[str, float]) -> None:
    with pytest.raises(ExchangeError):
        Cell.of(**{"leak": 0.5, "threshold": 1.0, **numbers})


def test_snntorch_keeps_its_own_resets() -> None:
    """Two rules that no other toolkit has go back into snnTorch as they are."""
    toolkit = plugins.toolkit("snntorch")
    for made in (snn.Leaky(0.5, reset_delay=False), snn.Synaptic(alpha=0.5, beta=0.5, reset_mechanism="zero")):
        cell = toolkit.describe(made)
        x = currents(cell)
        with torch.no_grad():
            assert torch.equal(run_neuron(toolkit, toolkit.build(cell).to(DEVICE), x), run_neuron(toolkit, made, x))
        for other in ("norse", "spikingjelly"):
            with pytest.raises(ExchangeError, match="no reset by the rule"):
                plugins.toolkit(other).build(cell)


@pytest.mark.parametrize("threshold", [1e9, float("inf")])
def test_a_threshold_that_nothing_reaches_is_that_of_a_readout(threshold: float) -> None:
    node = neuron.LIFNode(tau=2.0, v_threshold=threshold)
    toolkit = plugins.toolkit("spikingjelly")
    assert not toolkit.is_spiking(node)
    assert toolkit.describe(node).threshold is None


def test_the_readout_of_the_benchmark_has_a_finite_threshold() -> None:
    # SpikingJelly's CUDA kernels refuse an infinite one.
    node = plugins.toolkit("spikingjelly").readout_neuron(tau=2.0)
    assert node.v_threshold == 1e9


def test_resets_read_what_earlier_versions_wrote() -> None:
    assert Reset("subtract in the next step") is Reset.SUBTRACT_NEXT_STEP
    assert Reset("snnTorch: subtract, again while the membrane stays above") is Reset.SUBTRACT_WHILE_ABOVE
    assert Reset("snnTorch: zero in the next step, dropping its input") is Reset.ZERO_NEXT_STEP
    with pytest.raises(ValueError, match="never"):
        Reset("never")


@pytest.mark.parametrize("numbers", [{"gain": 1.0}, {"synapse": 0.5}, {"threshold": None}])
def test_constants_of_norses_neurons_that_differ_move_with_them(numbers: dict[str, Any]) -> None:
    leak = torch.tensor([0.25, 0.5])
    cell = Cell.of(**{"leak": leak, "gain": leak, "threshold": 1.0, **numbers})
    made = plugins.toolkit("norse").build(cell)
    assert made.to("meta").p.tau_mem_inv.is_meta  # type: ignore[union-attr]
    again = plugins.toolkit("norse").build(cell).double()
    assert again.p.tau_mem_inv.dtype == torch.float32, "rounded once"  # type: ignore[union-attr]
    assert plugins.toolkit("norse").describe(again).leak.tolist() == [0.25, 0.5]
