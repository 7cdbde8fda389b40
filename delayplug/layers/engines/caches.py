"""A cache that is bounded by the bytes of its values."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteCache(Generic[K, V]):
    """Values by key, at most `limit` bytes of them: the least recently used ones go first. Safe among threads.

    Args:
        limit: in bytes. A value that is larger by itself is not cached.
        size: of a value, in bytes.
    """

    def __init__(self, limit: int, size: Callable[[V], int]) -> None:
        self.limit = limit
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key, made if it is not there. Threads that miss it at the same time make it each."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            if key not in self._values and self._size(value) <= self.limit:
                self._values[key] = value
                while self.nbytes > self.limit:
                    self._values.popitem(last=False)
        return value

    def clear(self) -> None:
        with self._lock:
            self._values.clear()

    @property
    def nbytes(self) -> int:
        """The bytes of all values together."""
        with self._lock:
            return sum(map(self._size, self._values.values()))

    def __len__(self) -> int:
        return len(self._values)
