"""What a run computes on."""

import platform

import pytest
import torch

from delayplug import RunError
from delayplug.bench.hardware import device_name, matmul_precision, within_memory


def test_names_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_name(torch.device("cpu"))
    assert device_name(torch.device("mps")) == "mps"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    assert device_name(torch.device("cuda", 1)) == "card 1"


@pytest.mark.parametrize("known", ["Some processor", ""])
def test_a_processor_that_the_system_does_not_name(monkeypatch: pytest.MonkeyPatch, known: str) -> None:
    def missing(self: object) -> str:
        raise OSError

    monkeypatch.setattr("pathlib.Path.read_text", missing)
    monkeypatch.setattr(platform, "processor", lambda: known)
    assert device_name(torch.device("cpu")) == (known or platform.machine())


def test_precision_is_set_back() -> None:
    before = torch.get_float32_matmul_precision()
    with matmul_precision("medium"):
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(ZeroDivisionError), matmul_precision("high"):
        1 / 0  # noqa: B018
    assert torch.get_float32_matmul_precision() == before


def test_more_memory_than_there_is() -> None:
    """One line, in torch's own words; other errors stay what they are."""
    advice = r"run: expected a network and batches that fit into memory, got: .* Take a smaller --hidden"
    for sizes in ((1 << 40,), (1 << 40, 1 << 40)):  # no such memory; no such number of bytes
        with pytest.raises(RunError, match=advice) as caught, within_memory("run"):
            torch.empty(sizes)
        assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=advice), within_memory("run"):
        raise MemoryError("all of it")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), within_memory("run"):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
