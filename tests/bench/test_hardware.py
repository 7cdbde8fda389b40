"""What a run computes on."""

import platform

import pytest
import torch

from delayplug.bench.hardware import device_name, matmul_precision


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
