"""Ways in which a file can be damaged, for tests of everything that is read back."""

import copy
import json
from collections.abc import Iterator

# In place of a value: each kind of JSON, and numbers that no computation expects.
VALUES: tuple[object, ...] = (
    *(None, True, -1, 0, 0.5, 10**15, 10**400, 1e308, float("nan"), float("inf")),
    *("x", "", [], {}, [[]], ["x"], {"a": 1}),
)
_DEEP = "[" * 100_000


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path to each part of a value from JSON; of lists the first entry."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield (*path, key)
            yield from places(each, (*path, key))
    elif isinstance(value, list) and value:
        yield (*path, 0)
        yield from places(value[0], (*path, 0))


def edited(value: object) -> Iterator[tuple[str, object]]:
    """A value from JSON with each of its parts left out, or replaced by each of `VALUES`; and which part in words."""
    for path in places(value):
        for new in ("left out", *VALUES):
            whole = copy.deepcopy(value)
            part = whole
            for key in path[:-1]:
                part = part[key]  # type: ignore[index]
            if new == "left out":
                del part[path[-1]]  # type: ignore[attr-defined]
            else:
                part[path[-1]] = new  # type: ignore[index]
            yield f"{'.'.join(map(str, path))} {new!r:.20}", whole


def broken_text(text: str) -> Iterator[tuple[str, bytes]]:
    """What may be in place of a file of text: a part of it, and other files."""
    content = text.encode()
    for length in sorted({0, 1, 2, *range(0, len(content) - 2, max(1, len(content) // 40))}):
        yield f"first {length} bytes", content[:length]
    yield from {
        "binary": bytes(range(256)),
        "zeros": bytes(100),
        "UTF-16": text.encode("utf-16"),
        "words": b"hello\nworld\n",
        "deep": _DEEP.encode(),
        "deep inside": json.dumps({"format": 3, "config": "@"}).replace('"@"', _DEEP).encode(),
        "long number": b'{"format": 1' + b"0" * 5000 + b"}",
        "null": b"null",
        "list": b"[]",
        "object": b"{}",
        "number": b"1e999",
        "NaN": b"NaN",
        "twice": content + content,
    }.items()


def broken_bytes(content: bytes) -> Iterator[tuple[str, bytes]]:
    """What may be in place of a binary file: a part of it, a part of it changed, and other files."""
    for length in sorted({0, 1, 10, 100, *range(0, len(content), max(1, len(content) // 20)), len(content) - 1}):
        yield f"first {length} bytes", content[:length]
    for place in range(0, len(content), max(1, len(content) // 20)):
        yield f"byte {place}", content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]
    yield from {"zeros": bytes(1000), "words": b"hello\n", "behind": content + b"more", "twice": content * 2}.items()


def is_one_line(error: BaseException, name: str) -> bool:
    """Whether an error's text is one line that names a file, and of a length that can be read."""
    return name in str(error) and "\n" not in str(error) and len(str(error)) < 1500
