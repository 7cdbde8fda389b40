"""Whether what was read from a JSON file has the shape that a TypedDict describes. Imports no torch."""

from types import NoneType, UnionType
from typing import Any, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict


def mismatch(value: object, hint: Any, where: str = "") -> str:
    """The first place where a value is not what a type says, in words; "" if there is none.

    Args:
        value: from JSON.
        hint: a TypedDict, `dict[str, T]`, `list[T]`, a union, a plain type or Any. A float may be an integer.
        where: the path to the value.
    """
    if hint is Any:
        return ""
    if is_typeddict(hint):
        if not isinstance(value, dict):
            return _expected("an object", value, where)
        hints = get_type_hints(hint)
        missing = sorted(key for key in hint.__required_keys__ if key not in value)
        if missing:
            return f"{where or 'it'} lacks {', '.join(missing)}"
        parts = ((value[key], hints[key], f"{where}.{key}".lstrip(".")) for key in hints if key in value)
        return next(filter(None, (mismatch(*part) for part in parts)), "")
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is NotRequired:
        return mismatch(value, arguments[0], where)
    if origin in (Union, UnionType):
        return "" if any(not mismatch(value, each, where) for each in arguments) else _expected(str(hint), value, where)
    if origin is list:
        if not isinstance(value, list):
            return _expected("a list", value, where)
        return next(filter(None, (mismatch(each, arguments[0], f"{where}[{n}]") for n, each in enumerate(value))), "")
    if origin is dict:
        if not isinstance(value, dict):
            return _expected("an object", value, where)
        parts = ((each, arguments[1], f"{where}.{key}") for key, each in value.items())
        return next(filter(None, (mismatch(*part) for part in parts)), "")
    kinds = {float: (int, float), NoneType: (NoneType,)}.get(hint, (hint,))
    if (isinstance(value, bool) and hint is not bool) or not isinstance(value, kinds):
        return _expected(hint.__name__, value, where)
    return ""


def _expected(what: str, value: object, where: str) -> str:
    return f"{where or 'it'} is {type(value).__name__}, expected {what}"
