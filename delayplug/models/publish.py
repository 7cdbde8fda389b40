"""Makes, from a finished run, a file of its network that others can load, and a page about it."""

import re
from dataclasses import replace
from pathlib import Path

import torch

from ..bench.comparison.existing import check_same_data
from ..bench.comparison.records import MODEL, RECORD, Record, read_record
from ..bench.comparison.trained import load_trained, read_model
from ..bench.config import SYNTHETIC, RunConfig
from ..bench.hardware import matmul_precision, within_memory
from ..bench.known_frames import known_frames
from ..bench.task import load_task
from ..bench.whole_files import make_folder, write_whole
from ..data import Frames
from ..errors import ArgumentError, RunError
from .card import CARD_FORMAT, Card
from .model_page import index_page, model_page
from .network_file import SUFFIX, read_card, stored, widened, write_network
from .pretrained import Pretrained, load_stored, networks_folder, portable

_BATCH = 256
# Number, or share, of recordings by which the accuracies of a file and its run may differ, whichever is larger.
_FEW, _SHARE = 3, 0.01


def publish(run: Path, name: str, files: Path, pages: Path, *, dataset: str | None = None) -> Card:
    """Write the file NAME.safetensors of a finished run, and the pages NAME.md and index.md.

    Args:
        run: the run's folder.
        name: of the network, such as "shdr-learned".
        files: the folder of all networks' files.
        pages: the folder of their pages.
        dataset: the folder of the run's data, for measuring the accuracy of the stored network; None: the folder that
            the run read, if it exists.

    Returns:
        The description in the file.

    Raises:
        ArgumentError: the name contains anything but small letters, digits and hyphens between them.
        RunError: there is no finished run; its network or its accuracy contradicts its record; or the data is not what
            it was trained on. Nothing is written.
        DataError: the data cannot be read.
        BackendError: the toolkit that the run was made with cannot be used.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ArgumentError("name", "small letters, digits and hyphens between them", repr(name))
    record, trained = read_record(run / RECORD), read_model(run)["state"]
    card = card_of(name, record)
    with within_memory(str(run)):
        network = Pretrained(card, card["config"]["backend"])  # its state_dict has the keys of the trained network
    if network.trainable() != record["parameters"]:
        got = f"a configuration of one of {network.trainable()}"
        raise RunError(f"{run / RECORD}: expected a network of {record['parameters']} parameters, got {got}")
    load_trained(network, trained, run / MODEL)
    state = stored({name: trained[key] for name, key in portable(network).items()})
    load_stored(network, widened(state), str(run))
    tested = _test_recordings(record, dataset, run)
    if tested is not None:
        card["stored_accuracy"] = accuracy(network.eval(), tested)
        _check_accuracy(run, record["accuracy"]["last epoch"], card["stored_accuracy"], len(tested))
    write_network(files / f"{name}{SUFFIX}", state, card)
    write_pages(files, pages)
    return card


def _check_accuracy(run: Path, of_run: float, of_file: float, recordings: int) -> None:
    """Raise RunError if the accuracies differ by more than half precision and another device can explain."""
    if abs(of_run - of_file) * recordings > max(_FEW, _SHARE * recordings):
        raise RunError(
            f"{run}: expected a network that classifies {of_run:.2%} of the test recordings correctly, as its record "
            f"says, got {of_file:.2%}. Its model or its record may be from another run"
        )


def write_pages(files: Path, pages: Path) -> None:
    """Write a page for each network's file in a folder, and an index of them."""
    make_folder(pages)
    for path, text in pages_of(files).items():
        write_whole(pages / path, text)


def pages_of(files: Path) -> dict[str, str]:
    """The pages about the networks in a folder, by the names of their files."""
    paths = sorted(files.glob(f"*{SUFFIX}"))
    cards = {path: read_card(path) for path in paths}
    shipped = files.resolve() == networks_folder().resolve()
    pages = {f"{card['name']}.md": model_page(card, path.read_bytes(), shipped=shipped) for path, card in cards.items()}
    return pages | {"index.md": index_page(list(cards.values()), shipped=shipped)}


def card_of(name: str, record: Record) -> Card:
    """The description of a run's network, from its record."""
    config, data = RunConfig(**record["config"]), record["data"]
    checksums = data.get("checksums", {})
    known = known_frames(record["config"], checksums)
    folder = Path(config.dataset).name
    dataset = config.dataset if config.dataset == SYNTHETIC else f"data/{folder}"
    return {
        "format": CARD_FORMAT,
        "name": name,
        "config": replace(config, dataset=known.dataset if known else dataset).to_json(),
        "data": {
            "name": known.name if known else data.get("name", folder),
            "train": data["train"],
            "valid": data["valid"],
            "test": data["test"],
            "steps": data["steps"],
            "channels": data["channels"],
            "classes": data["classes"],
            "split": data["split"],
            "checksums": dict(checksums),
        },
        "accuracy": dict(record["accuracy"]),
        "parameters": record["parameters"],
        "spikes_per_neuron": record["spikes_per_neuron"],
        "finished": record["finished"],
        "versions": record["versions"],
        "device": str(record["machine"].get("name") or record["machine"].get("device", "")),
    }


@torch.no_grad()
def accuracy(network: Pretrained, frames: Frames) -> float:
    """The share of recordings that a network classifies correctly, in 0..1."""
    hits = 0
    with matmul_precision(network.config.precision):
        for start in range(0, len(frames), _BATCH):
            x, y = frames.batch(range(start, min(start + _BATCH, len(frames))))
            hits += int((network.scores(x).argmax(-1) == y).sum())
    return hits / len(frames)


def _test_recordings(record: Record, dataset: str | None, run: Path) -> Frames | None:
    """The test recordings of a run; None if no folder is passed and the folder that the run read does not exist."""
    config = RunConfig(**record["config"])
    if dataset is not None:
        config = replace(config, dataset=dataset)
    elif config.dataset != SYNTHETIC and not Path(config.dataset).is_dir():
        return None
    task = load_task(config)
    check_same_data(config, record["data"].get("checksums"), task.checksums, str(run))
    return task.test
