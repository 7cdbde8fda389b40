"""What is read back from files is checked against the type that describes it, with bounds. Imports no torch."""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ..errors import shortened

_MOST = 2**53  # integers up to here are exact as floats, too

Count = Annotated[int, Field(ge=0, le=_MOST)]
Positive = Annotated[int, Field(ge=1, le=_MOST)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, le=1e300, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-1e300, le=1e300, allow_inf_nan=False)]


class Split(TypedDict):
    """What a record and a card have in common about the data: recordings per part, their shape, classes, the split."""

    train: Positive
    valid: Count
    test: Positive
    steps: Positive
    channels: Positive
    classes: Annotated[list[str], Field(min_length=1)]
    split: str


class UnreadableError(Exception):
    """A file is not JSON; the message says why, and does not name the file."""


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableError: it cannot be read, or is not JSON.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(str(error)) from error


def parse_json(text: str) -> object:
    """A value from JSON.

    Raises:
        UnreadableError: it is none, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        content: object = json.loads(text)
    except RecursionError as error:
        raise UnreadableError("values nested too deeply") from error
    except ValueError as error:
        raise UnreadableError(str(error)) from error
    return content


def mismatch(value: object, shape: Any) -> str:
    """The first place where a value is not what a type says, in words; "" if there is none.

    Args:
        value: from JSON, or from a file of tensors.
        shape: a TypedDict, or another type that pydantic knows. A float may be an integer; nothing else is converted.
    """
    try:
        _adapter(shape).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        if first["type"] == "missing":
            whole, _, key = where.rpartition(".")
            return f"{whole or 'it'} lacks {key}"
        problem = first["msg"].replace("Input ", "", 1)
        return f"{where or 'it'} {problem}, got {shortened(first['input'])}"
    return ""


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
