"""Classes made at run time: that of a layer with delays, under whatever other tools make out of a layer's class.

The class of a delayed layer derives from a mixin and from the layer's own class, and has the name and the module of the
latter: tracers of torch.fx, weight initialisation, summaries and others look at these. Tools that exchange the class of
a module, as `torch.nn.utils.parametrize` and FSDP do, may come before the delays and go after them, and the other way
round: so the delays are put in below a parametrization, and are taken out wherever they are.
"""

from torch import nn
from torch.nn.utils import parametrize

_made: dict[tuple[type, type[nn.Module]], type] = {}  # by mixin and class


class _Told(type):
    """The type of such a class: it shows as what it is, as in the KeyError of a table of classes that lacks it."""

    def __repr__(cls) -> str:
        _, plain = mixed_in(cls)
        name = f"{cls.__module__}.{cls.__qualname__}"
        advice = "delayplug.to_nir and to_onnx export them, others would lose them"
        return f"<class '{name}', a {plain.__name__} with delays ({advice})>"


def mixed(mixin: type, plain: type[nn.Module]) -> type:
    """The class that derives from a mixin and a class of layers, named as the latter; the same one at every call."""
    if (mixin, plain) not in _made:
        names = {"__module__": plain.__module__, "__qualname__": plain.__qualname__, "__doc__": plain.__doc__}
        kind = _Told if type(plain) is type else type("_Told", (_Told, type(plain)), {})
        _made[mixin, plain] = kind(plain.__name__, (mixin, plain), names)
    return _made[mixin, plain]


def mixed_in(cls: type) -> tuple[type, type[nn.Module]]:
    """(mixin, class) of which `mixed` made a class, or one of the classes that it derives from."""
    return next(parts for parent in cls.__mro__ for parts, made in _made.items() if made is parent)


def put_in(mixin: type, layer: nn.Module) -> None:
    """Give a layer the mixin, in place."""
    # torch takes parametrizations off from the top of the class: what it made for them stays above.
    plain = parametrize.type_before_parametrizations(layer)
    layer.__class__ = _rebased(type(layer), plain, mixed(mixin, plain))


def take_out(layer: nn.Module) -> None:
    """Undo `put_in`, whatever became of the class since."""
    mixin, plain = mixed_in(type(layer))
    layer.__class__ = _rebased(type(layer), mixed(mixin, plain), plain)


def as_plain(layer: nn.Module) -> nn.Module:
    """Another module of the class under the mixin, with the very contents of a layer: for who asks for its class."""
    _, plain = mixed_in(type(layer))
    other = plain.__new__(plain)
    other.__dict__ = layer.__dict__
    return other


def _rebased(cls: type, old: type, new: type) -> type:
    """A class like this one, of the same name, that derives from `new` where this one derives from `old`."""
    if cls is old:
        return new
    bases = tuple(_rebased(base, old, new) if issubclass(base, old) else base for base in cls.__bases__)
    about = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    return type(cls.__name__, bases, about)
