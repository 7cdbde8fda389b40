"""Records that could be, without training anything."""

from typing import Any

from delayplug.bench.comparison.records import Record
from delayplug.bench.config import RunConfig, configure
from delayplug.bench.known_frames import KNOWN_FRAMES

SHDR = next(known for known in KNOWN_FRAMES if known.name == "SHD-R")
PARAMETERS = {"none": 107_520, "fixed": 107_520, "learned": 214_016}


def record(hits: int = 2124, tested: int = 2264, **settings: Any) -> Record:
    """A record of the paper's network on SHD-R with so many of the test recordings right."""
    settings = {"dataset": "data/shdr", "backend": "spikingjelly", "protocol": "paper", **settings}
    config: RunConfig = configure("shd", **settings)
    by_speakers, by_test = config.protocol == "speakers", config.protocol == "paper"
    validated = tested if by_speakers or by_test else 1600
    trained = 8156 if by_test or config.refit else 8156 - validated
    epoch: Any = {
        "epoch": config.epochs,
        "sigma": None,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "valid_accuracy": None if config.refit else hits / tested if by_speakers or by_test else 0.75,
        "seconds": 1.0,
        "waited": 0.0,
    }
    accuracy = {"last epoch": hits / tested}
    if not by_speakers and not config.refit:
        accuracy["best on test" if by_test else "best on validation"] = hits / tested
    tail = 0 if config.delays == "none" else config.max_delay // 2
    made: Any = {
        "format": 3,
        "config": config.to_json(),
        "finished": "2026-01-01T00:00:00+00:00",
        "versions": {"python": "3.11.7", "delayplug": "0.2.0", "torch": "2.11.0", config.backend: "2.0.0"},
        "machine": {"device": "cuda", "name": "a card"},
        "data": {
            "train": trained,
            "valid": validated,
            "test": tested,
            "steps": 137,
            "channels": 140,
            "classes": [str(n) for n in range(20)],
            "split": "none",
            "checksums": dict(SHDR.frames[10.0, 5, "grid"]),
        },
        "parameters": PARAMETERS.get(config.delays, 0),
        "epochs": [epoch],
        "accuracy": accuracy,
        "best_epoch": config.epochs,
        "seconds_per_epoch": 1.0,
        "waiting": 0.0,
        "peak_memory_mb": 100.0,
        "spikes_per_neuron": [10.0, 5.0][: len(config.hidden)],
        "inference": {
            "steps": [137 + tail * n for n in (1, 2, 3)],
            "active": [5000.0, 2560.0, 1280.0],
            "operations": [1_280_000.0, 655_360.0, 25_600.0],
        },
    }
    if config.refit:
        made["held_out"] = {"accuracy": 0.75, "epochs": [{**epoch, "valid_accuracy": 0.75}]}
    if by_speakers:
        del made["data"]["checksums"]["test"]
        made["data"]["tested_on"] = "speakers 0 and 1"
    found: Record = made
    return found
