"""Settings: fields of a dataclass that carry their help text, their bounds and their option.

A field is annotated with a `Setting`; `settings` lists those of a class, `check_settings` refuses values that are not
allowed. The command line makes an option of each, and a file may have each as a key.
"""

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, fields, replace
from functools import cache
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Protocol, get_args, get_origin, get_type_hints

from ..errors import ArgumentError, did_you_mean, shortened


class DataclassInstance(Protocol):
    """An instance of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, "Field[Any]"]]


# Of integers, unless the setting has a smaller bound: torch has no larger sizes. Of other numbers: what float32 holds.
_LARGEST = 2**31 - 1
_MOST = 1e30
# Control characters, and halves of characters, which stand for the bytes of a name that is not in UTF-8.
_UNUSABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Setting:
    """The description of a field: `epochs: Annotated[int, Setting("Length.", at_least=1)] = 20`.

    Attributes:
        help: a sentence or two.
        default_text: what the help says about the default, where that is not its value.
        choices: the values allowed; empty if there is no list of them. Those of a Literal are taken from it.
        at_least, above, at_most, below: bounds of a number; None where it has none.
        plural: the key under which a comparison takes several values of it, one for each run; "" if all runs share one.
        flag: the option's name, such as "--batch-size"; made of `plural` or of the field's name if "".
        name, type, default, is_list: of the field, filled in by `settings`: its name, the type of one value, its
            default, and whether it holds a tuple of such values.
    """

    help: str
    default_text: str = ""
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    plural: str = ""
    flag: str = ""
    name: str = ""
    type: "type[bool | int | float | str]" = str
    default: object = None
    is_list: bool = False

    @property
    def key(self) -> str:
        """Its name in a file and among the arguments of a comparison."""
        return self.plural or self.name

    @property
    def expected(self) -> str:
        """The allowed values, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        one, many = {
            bool: ("true or false", "true or false"),
            int: ("an integer", "integers"),
            float: ("a number", "numbers"),
            str: ("text", "texts"),
        }[self.type]
        bounds = " and ".join(f"{sign} {bound}" for sign, _, bound in self._bounds())
        return f"{many if self.is_list else one} {bounds}".rstrip()

    def allows(self, value: object) -> bool:
        """Whether a field may have this value."""
        if self.is_list:
            return isinstance(value, list | tuple) and all(map(self._allows_one, value))
        return self._allows_one(value)

    def _allows_one(self, value: object) -> bool:
        kind: type = {int: Integral, float: Real}.get(self.type, self.type)
        if not isinstance(value, kind) or (isinstance(value, bool) and self.type is not bool):
            return False
        if self.choices:
            return value in self.choices
        if isinstance(value, str):
            return not _UNUSABLE.search(value)
        if isinstance(value, int | float) and self._is_too_large(value):
            return False
        return all(holds(value, bound) for _, holds, bound in self._bounds())

    def check(self, value: object, where: str) -> None:
        """Raise ArgumentError unless a field may have this value; `where` names it in the message."""
        if not self.allows(value):
            raise ArgumentError(where, self.expected, shortened(value), self._advice(value))

    def _advice(self, value: object) -> str:
        """A bound that every setting has, and that a value which is not allowed exceeds; "" if it is something else."""
        each = value if self.is_list and isinstance(value, list | tuple) else [value]
        if self.choices:
            return next(filter(None, (did_you_mean(one, self.choices) for one in each)), "")
        if self.type is str and all(isinstance(one, str) for one in each):
            return "Names have no control characters, and are in UTF-8"
        numbers = all(isinstance(one, int | float) for one in each) and self.type in (int, float)
        return f"Take at most {self._largest:g}" if numbers and any(map(self._is_too_large, each)) else ""

    @property
    def _largest(self) -> float:
        return max(_LARGEST, self.at_most or 0) if self.type is int else _MOST

    def _is_too_large(self, value: float) -> bool:
        return not abs(value) <= self._largest  # which NaN is, too

    def _bounds(self) -> Iterator[tuple[str, Callable[[Any, Any], bool], float]]:
        bounds = (self.at_least, self.above, self.at_most, self.below)
        signs = (">=", ">", "<=", "<")
        comparisons = (operator.ge, operator.gt, operator.le, operator.lt)
        for sign, holds, bound in zip(signs, comparisons, bounds, strict=True):
            if bound is not None:
                yield sign, holds, bound


@cache
def settings(cls: type[DataclassInstance]) -> dict[str, Setting]:
    """The settings of a dataclass by name, in the order of its fields, which all are `Annotated` with one."""
    annotations = get_type_hints(cls, include_extras=True)
    return {field.name: _complete(annotations[field.name], field) for field in fields(cls)}


def _complete(annotation: object, field: "Field[object]") -> Setting:
    """The setting of a field, completed by its name, type and default."""
    kind, setting = get_args(annotation)
    assert isinstance(setting, Setting)
    is_list = get_origin(kind) is tuple
    choices = get_args(kind) if get_origin(kind) is Literal else setting.choices
    return replace(
        setting,
        choices=choices,
        flag=setting.flag or f"--{(setting.plural or field.name).replace('_', '-')}",
        name=field.name,
        type=get_args(kind)[0] if is_list else str if choices else kind,
        default=field.default,
        is_list=is_list,
    )


def check_settings(values: DataclassInstance) -> None:
    """Raise ArgumentError unless every field of a dataclass of settings has an allowed value."""
    for name, setting in settings(type(values)).items():
        value = getattr(values, name)
        setting.check(value, name)
