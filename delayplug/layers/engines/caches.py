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
        self._nbytes = 0
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key, made if it is not there. Threads that miss it at the same time make it each."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        size = self._size(value)
        with self._lock:
            if key not in self._values and size <= self.limit:
                self._values[key] = value
                self._nbytes += size
                while self._nbytes > self.limit:
                    _, oldest = self._values.popitem(last=False)
                    self._nbytes -= self._size(oldest)
        return value

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
            self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """The bytes of all values together."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._values)
