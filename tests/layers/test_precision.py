"""`precision`: what torch's setting means for the engines."""

from collections.abc import Iterator

import pytest
import torch

from delayplug.layers.precision import allows_tf32, parts


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(("name", "count", "tf32"), [("highest", 2, False), ("high", 2, True), ("medium", 1, True)])
def test_the_setting_of_torch_decides(name: str, count: int, tf32: bool) -> None:
    torch.set_float32_matmul_precision(name)
    assert (parts(), allows_tf32()) == (count, tf32)
