"""Delays that a model has by other means than delayplug, as delayplug's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, WiringError
from ..layers.dcls import is_dcls
from ..layers.linear import LearnableDelay
from ..layers.time_last import TimeLastDelay
from ..toolkits import plugins
from ..toolkits.capabilities import ChannelDelays, own_delays
from ..toolkits.vocabulary import Granularity
from .apply import add_delays, take_out_delays
from .dataflow import Example, drive, preserved
from .find import delayed_layers
from .inventory import channels_of
from .plan import check_model
from .through import Through
from .verdict import ASK


def convert_delays(
    model: nn.Module, example: Example | None = None, *, round_in_eval: bool = False, backend: str | None = None
) -> nn.Module:
    """Make the delays that a network has by other means delayplug's, in place: it computes the same numbers.

    These are DCLS's `Dcls1d` layers, and the modules by which toolkits delay channels (snnTorch's `SynapticDelay`,
    SpikingJelly's `layer.Delay`). Without this call they stay as they are: `plan_delays` names them, and no layer next
    to one of them is delayed unless it is named. A `Dcls1d` becomes a `TimeLastDelay` with a `LearnableDelay` inside,
    in the same place, for the same input; a module with delays per channel becomes a module that gives its input as it
    is, with delays as `add_delays` gives them. From then on everything of delayplug works with them. Delays that were
    not trained stay so. Weights and biases stay the Parameters that they are; delays and widths are new ones, so that
    optimizers have to be made again.

    Args:
        model: the network; for delays per channel with neurons of a toolkit.
        example: as for `plan_delays`; for delays per channel that the structure of the model does not show enough of.
        round_in_eval: round the delays in `eval()`, which these modules do not do by themselves, and which the paper
            does at the end. Freezing rounds in any case; NIR and ONNX need it for delays between whole steps.
        backend: name of the toolkit; by default the one whose neurons the model has.

    Returns:
        The model itself.

    Raises:
        WiringError: there is nothing to convert, or one of them cannot be converted; the model is as it was.
        ArgumentError: `model` is no module.
        BackendError: the toolkit cannot be used.
    """
    check_model(model)
    synaptic = {name: module for name, module in model.named_modules() if is_dcls(module)}
    channels = dict(_toolkits_own(model, backend))
    if not synaptic and not channels:
        raise WiringError(
            "nothing to convert: the model has no Dcls1d, and no module that its backend knows to delay channels"
        )
    if "" in (*synaptic, *channels):
        raise WiringError("the model is itself such a layer: use LearnableDelay.from_dcls, or put it into a network")
    new: dict[str, nn.Module] = {name: _time_last(name, module, round_in_eval) for name, module in synaptic.items()}
    for name, own in channels.items():
        new[name] = Through(_channels(model, name, own, example), own.resets, _device(model, own))
    before = {name for name, _ in delayed_layers(model)}
    with _in_place_of({name: model.get_submodule(name) for name in new}, new):
        try:
            for name, own in channels.items():
                _delay(model, name, own, example, round_in_eval, backend)
        except Exception as error:
            take_out_delays(model, {name for name, _ in delayed_layers(model)} - before)
            raise WiringError(f"the delays were not converted, and the model is as it was: {error}") from error
    return model


def _toolkits_own(model: nn.Module, backend: str | None) -> Iterator[tuple[str, ChannelDelays]]:
    """(name, delays) of the modules by which the toolkit of a model delays."""
    try:
        toolkit = plugins.toolkit_of(model.modules())[1] if backend is None else plugins.toolkit(backend)
    except WiringError:  # no neurons: there may be DCLS layers all the same
        return
    for name, module in model.named_modules():
        own = own_delays(toolkit, module)
        if own is not None:
            yield name, own


def _time_last(name: str, module: nn.Module, round_in_eval: bool) -> TimeLastDelay:
    try:
        layer = LearnableDelay.from_dcls(module, round_in_eval=round_in_eval)
    except ArgumentError as error:
        raise WiringError(f"{name} ({type(module).__name__}) cannot be converted: {error}") from error
    layer.weight, layer.bias = module.weight, module.bias  # type: ignore[assignment]
    return TimeLastDelay(layer).train(module.training)


def _delay(
    model: nn.Module, name: str, own: ChannelDelays, example: Example | None, round_in_eval: bool, backend: str | None
) -> None:
    """Give a `Through` in the model its delays."""
    through = model.get_submodule(name)
    assert isinstance(through, Through)
    through.is_open = True
    try:
        add_delays(
            model,
            own.max_delay,
            example=example,
            granularity=Granularity.AXONAL,
            interpolation=own.interpolation,
            sigma=own.sigma,
            init={name: own.delays.detach().clamp(0, own.max_delay).expand(through.channels)},
            round_in_eval=round_in_eval,
            filter_fn=[name],
            backend=backend,
        )
    finally:
        through.is_open = False
    delays = through.get_parameter("delay.delays")
    delays.requires_grad_(own.learns)


def _channels(model: nn.Module, name: str, own: ChannelDelays, example: Example | None) -> int:
    """The number of channels of a module with delays, by itself, by the example, or by what stands next to it."""
    if own.delays.dim() > 1:
        kind = type(model.get_submodule(name)).__name__
        expected = f"one delay for each channel, got shape {tuple(own.delays.shape)}"
        raise WiringError(f"{name} ({kind}) cannot be converted: expected {expected}")
    if own.delays.dim():
        return len(own.delays)
    if example is not None:
        shapes: list[torch.Size] = []

        def see(module: nn.Module, args: tuple[object, ...]) -> None:
            shapes.extend(x.shape for x in args[:1] if isinstance(x, Tensor))

        with preserved(model), model.get_submodule(name).register_forward_pre_hook(see):
            drive(model, example)
        if shapes and len(shapes[0]) > own.leading:
            return shapes[0][own.leading]
    parent, _, key = name.rpartition(".")
    siblings = model.get_submodule(parent)._modules
    place = list(siblings).index(key)
    children = list(siblings.values())
    for nearby, side in ((children[:place][::-1], 1), (children[place + 1 :], 0)):
        known = next((c for child in nearby if child is not None and (c := channels_of(child)[side])), None)
        if known is not None and isinstance(model.get_submodule(parent), nn.Sequential):
            return known
    raise WiringError(f"{name} ({type(model.get_submodule(name)).__name__}) does not show its channels: {ASK}")


def _device(model: nn.Module, own: ChannelDelays) -> torch.device:
    return next((p.device for p in model.parameters()), own.delays.device)


@contextmanager
def _in_place_of(old: Mapping[str, nn.Module], new: Mapping[str, nn.Module]) -> Iterator[None]:
    """Make each module what the new one of its name is, for good unless the block raises.

    The objects stay, so that whoever holds one, such as a list of the user's, holds what runs; and so do their hooks.
    """
    before = {name: (type(module), dict(module.__dict__)) for name, module in old.items()}
    for name, module in old.items():
        hooks = {key: value for key, value in module.__dict__.items() if key.startswith(("_forward", "_backward"))}
        module.__class__ = type(new[name])
        module.__dict__ = {**new[name].__dict__, **hooks}
    try:
        yield
    except Exception:
        for name, (kind, contents) in before.items():
            old[name].__class__ = kind
            old[name].__dict__ = contents
        raise
