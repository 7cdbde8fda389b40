"""Runs of the benchmark on a GPU, where there is one: training, deploying and the record, under each backend."""

from pathlib import Path

import pytest
import torch

from delayplug.bench.comparison.compare import compare, configurations
from delayplug.bench.hardware import device_name
from delayplug.bench.measure.deployment import deploy
from delayplug.bench.resources import Resources
from tests.bench.runs import TINY

GPU = Resources("gpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.trains
@pytest.mark.parametrize("delays", ["none", "learned", "axonal"])
@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly"])
def test_a_run_and_its_deployment(backend: str, delays: str, tmp_path: Path) -> None:
    configs = configurations("quick", backends=[backend], delays=[delays], precision="medium", **TINY)
    (record,) = compare(configs, tmp_path, resources=GPU)
    assert record["machine"]["name"] == device_name(torch.device("cuda", 0))
    assert record["machine"]["device"] == "gpu"
    assert record["machine"]["neurons"]
    assert record["config"]["precision"] == "medium"
    assert torch.get_float32_matmul_precision() == "highest"
    if delays != "none":
        rows = deploy(tmp_path / configs[0].name)
        assert abs(rows["whole steps"].accuracy - record["accuracy"]["last epoch"]) < 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.trains
@pytest.mark.parametrize("recurrent", ["none", "plain", "axonal", "synaptic"])
@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly"])
def test_a_device_and_the_cpu_train_alike(backend: str, recurrent: str, tmp_path: Path) -> None:
    """Not to the last digit: sums in another order flip a spike here and there."""
    configs = configurations("quick", backends=[backend], delays=["learned"], dropout=0.0, recurrent=recurrent, **TINY)
    records = [compare(configs, tmp_path / name, resources=Resources(name))[0] for name in ("cpu", "gpu")]
    losses = [[epoch["train_loss"] for epoch in record["epochs"]] for record in records]
    assert records[1]["machine"]["graph"] == "yes"
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.trains
def test_a_run_goes_on_on_another_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU wrote the CPU reads, and the other way round."""
    from delayplug.bench.training import training_module

    configs = configurations("quick", backends=["spikingjelly"], delays=["learned"], **TINY)
    choose = training_module.TrainingModule._choose
    for first, then in (("gpu", "cpu"), ("cpu", "gpu")):
        out, epochs = tmp_path / first, 0

        def interrupted(module: training_module.TrainingModule, entry: training_module.Epoch) -> None:
            nonlocal epochs
            epochs += 1
            if epochs == 2:
                raise KeyboardInterrupt
            choose(module, entry)

        monkeypatch.setattr(training_module.TrainingModule, "_choose", interrupted)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - Lightning turns it into an exit
            compare(configs, out, resources=Resources(first))
        monkeypatch.setattr(training_module.TrainingModule, "_choose", choose)
        (record,) = compare(configs, out, resources=Resources(then))
        assert len(record["epochs"]) == 2
