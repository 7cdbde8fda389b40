"""Small files in the layout of the Spiking Heidelberg Digits."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    import h5py

TIMES = [[0.0, 0.25, 0.25, 1.1], [], [0.5]]
UNITS = [[0, 699, 3, 4], [], [5]]
Write = Callable[..., Path]


def _put(file: "h5py.File", name: str, value: Any, vlen: Any) -> None:
    import h5py

    if vlen is None or not isinstance(value, list):
        file[name] = value
        return
    dataset = file.create_dataset(name, (len(value),), h5py.vlen_dtype(vlen))
    for n, row in enumerate(value):
        dataset[n] = np.asarray(row, vlen)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(name, **changes) makes a good file of three recordings, but for the changes; None leaves a dataset out."""
    import h5py

    def write(
        name: str = "a_train.h5", *, float_type: Any = np.float16, unit_type: Any = np.uint16, **changes: Any
    ) -> Path:
        contents: dict[str, Any] = {
            "times": TIMES,
            "units": UNITS,
            "labels": np.array([1, 0, 1], np.uint16),
            "speaker": np.array([4, 2, 4], np.uint16),
            "keys": np.array([b"zero", b"one"]),
        } | changes
        path = tmp_path / name.removesuffix(".gz")
        with h5py.File(path, "w") as file:
            for key, value in contents.items():
                group = {"times": "spikes/", "units": "spikes/", "labels": ""}.get(key, "extra/")
                if value is not None:
                    _put(file, group + key, value, {"times": float_type, "units": unit_type}.get(key))
        if not name.endswith(".gz"):
            return path
        packed = tmp_path / name
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        return packed

    return write
