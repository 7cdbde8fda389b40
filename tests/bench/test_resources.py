"""Resources of runs."""

from delayplug.bench.resources import Resources


def test_devices_in_words() -> None:
    assert Resources().label == "auto"
    assert Resources("gpu", devices=4, nodes=2).label == "8 x gpu"
