"""What a file says about the network in it. Imports no torch."""

from typing import Any, NotRequired, TypedDict

CARD_FORMAT = 1


class CardData(TypedDict):
    """The data of a network's run.

    Keys:
        name: "SHD-R", or the folder's, if it is no data set with known checksums.
        train, valid, test: recordings.
        steps, channels: of the input.
        classes: their names.
        split: in words.
        checksums: of the frames of each file.
    """

    name: str
    train: int
    valid: int
    test: int
    steps: int
    channels: int
    classes: list[str]
    split: str
    checksums: dict[str, str]


class Card(TypedDict):
    """A trained network, as its file describes it.

    Keys:
        format: of this description.
        name: of the network.
        config: of the run, as in its record; `RunConfig(**config)` makes it again. Its data set has no path of the
            computer that it was trained on.
        data: see `CardData`.
        accuracy: of the trained network on the test recordings, by the rule that chose the epoch; the network is that
            of the last one.
        stored_accuracy: that of the network in the file, if the recordings were there when it was written.
        parameters: trainable ones, delays included.
        spikes_per_neuron: of each hidden layer, for a recording.
        finished: when the run was.
        versions: of the packages that it was made with.
        device: that it was trained on.
    """

    format: int
    name: str
    config: dict[str, Any]
    data: CardData
    accuracy: dict[str, float]
    stored_accuracy: NotRequired[float]
    parameters: int
    spikes_per_neuron: list[float]
    finished: str
    versions: dict[str, str]
    device: str
