"""From a finished run to a file that others can load."""

import dataclasses
import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from delayplug import ArgumentError, RunError
from delayplug.bench.comparison.compare import compare
from delayplug.bench.comparison.records import read_record
from delayplug.bench.config import configure
from delayplug.bench.resources import Resources
from delayplug.bench.task import load_task
from delayplug.models.pretrained import pretrained
from delayplug.models.publish import accuracy, card_of, pages_of, publish
from tests.bench.runs import TINY, Comparison, write_recordings

ROOT = Path(__file__).parents[2]


@pytest.mark.trains
def test_what_is_published_is_the_network_of_the_run(comparison: Comparison, tmp_path: Path) -> None:
    configs, out, records = comparison
    for config, record in zip(configs, records, strict=True):
        name = f"tiny-{config.delays}"
        card = publish(out / config.name, name, tmp_path, tmp_path / "pages")
        assert card["accuracy"] == record["accuracy"]
        network = pretrained(str(tmp_path / f"{name}.safetensors"), backend="norse")
        assert network.trainable() == record["parameters"]
        assert accuracy(network, load_task(config).test) == pytest.approx(card["stored_accuracy"], abs=0.003)
        assert card["stored_accuracy"] == pytest.approx(record["accuracy"]["last epoch"], abs=0.02)
    pages = {path.name for path in (tmp_path / "pages").iterdir()}
    assert pages == {"index.md", "tiny-none.md", "tiny-fixed.md", "tiny-learned.md"}


@pytest.mark.trains
def test_what_cannot_be_published(comparison: Comparison, tmp_path: Path) -> None:
    configs, out, _ = comparison
    run = out / configs[-1].name
    for name in ("", "Shd", "../shd", "shd-", "s h"):
        with pytest.raises(ArgumentError, match="small letters"):
            publish(run, name, tmp_path, tmp_path)
    with pytest.raises(RunError, match="expected the record of a run"):
        publish(tmp_path, "shd", tmp_path, tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "model.pt").write_bytes((run / "model.pt").read_bytes())
    record = json.loads((run / "record.json").read_text())
    (copy / "record.json").write_text(json.dumps({**record, "parameters": 5}))
    with pytest.raises(RunError, match="expected a network of 5 parameters, got a configuration of one of 496"):
        publish(copy, "shd", tmp_path, tmp_path)
    del record["model"]  # as in records of earlier versions, which have no checksum of their network
    model = torch.load(run / "model.pt", weights_only=True)
    state = dict(model["state"])
    del model["state"]["norms.0.bias"]
    torch.save(model, copy / "model.pt")
    (copy / "record.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"norms\.0\.bias is missing, expected torch\.float32"):
        publish(copy, "shd", tmp_path, tmp_path)
    torch.save({**model, "state": state}, copy / "model.pt")
    better = {"last epoch": 0.9, "best on validation": 0.9}
    (copy / "record.json").write_text(json.dumps({**record, "accuracy": better}))
    with pytest.raises(
        RunError, match=r"expected a network that classifies 90\.00% .*Its model or its record may be from another run"
    ):
        publish(copy, "shd", tmp_path, tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.trains
def test_data_may_be_elsewhere_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    for split, number in (("train", 24), ("test", 10)):
        write_recordings(folder / f"digits_{split}.h5", number)
    config = configure("quick", dataset=str(folder), backend="norse", delays="learned", batch_size=8, **TINY)
    (record,) = compare([config], tmp_path / "runs", resources=Resources("cpu"))
    run = tmp_path / "runs" / config.name
    folder = folder.rename(tmp_path / "moved")
    card = publish(run, "digits", tmp_path, tmp_path)
    assert "stored_accuracy" not in card
    page = (tmp_path / "digits.md").read_text()
    assert "not measured" in page
    assert 'delayplug.pretrained("digits.safetensors")  # the path of its file' in page
    assert "`delayplug.pretrained(path, backend=...)`" in (tmp_path / "index.md").read_text()
    card = publish(run, "digits", tmp_path, tmp_path, dataset=str(folder))
    assert card["stored_accuracy"] == pytest.approx(record["accuracy"]["last epoch"], abs=0.11)
    example = [str(ROOT / "examples" / "pretrained.py"), "--name", str(tmp_path / "digits.safetensors")]
    monkeypatch.setattr(sys, "argv", [*example, "--dataset", str(folder)])
    runpy.run_path(example[0], run_name="__main__")
    assert re.search(r"from NIR \(\d+ branches\) into norse", capsys.readouterr().out)
    assert card["config"]["dataset"] == "data/digits"
    assert str(tmp_path) not in (tmp_path / "digits.md").read_text()
    write_recordings(folder / "digits_test.h5", 12)
    with pytest.raises(RunError, match="is of other data"):
        publish(run, "digits", tmp_path, tmp_path, dataset=str(folder))


@pytest.mark.trains
def test_known_frames_goes_by_its_name(comparison: Comparison) -> None:
    configs, out, _ = comparison
    record = read_record(out / configs[0].name / "record.json")
    assert card_of("a", record)["data"]["name"] == "embedded task"
    record["data"]["checksums"]["train"] = "0" * 64
    record["config"] = dataclasses.replace(configs[0], dataset="/home/me/digits").to_json()
    card = card_of("a", record)
    assert (card["data"]["name"], card["config"]["dataset"]) == ("digits", "data/digits")


def test_pages_are_those_of_the_files() -> None:
    """`delayplug bench publish` makes them; whoever changes their text makes them again with `write_pages`."""
    made = pages_of(ROOT / "delayplug" / "models" / "trained")
    there = {path.name: path.read_text() for path in (ROOT / "docs" / "models").iterdir()}
    assert there == made
