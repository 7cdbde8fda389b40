"""The description (model card) of a trained network, which its file contains. Imports no torch."""

from typing import Any, NotRequired

from typing_extensions import TypedDict

from ..bench.schema import Amount, Count, Share, Split

CARD_FORMAT = 1


class CardData(Split):
    """The data that a network was trained on.

    Keys:
        name: of the data set, such as "SHD-R"; of the folder, if its checksums are not known.
        train, valid, test: numbers of recordings.
        steps, channels: of a recording as input of the network.
        classes: their names.
        split: how training and validation recordings were split, in words.
        checksums: SHA-256 of the frames of each file, by "train", "valid" and "test".
    """

    name: str
    checksums: dict[str, str]


class Card(TypedDict):
    """A trained network, as its file describes it.

    Keys:
        format: CARD_FORMAT, the version of this description.
        name: of the network.
        config: of the run, as in its record: the arguments of `RunConfig`. `dataset` does not contain the path of the
            data on the computer that it was trained on.
        data: see `CardData`.
        accuracy: on the test recordings, in 0..1, by the rule that chose the epoch. The stored network is that of the
            last epoch.
        stored_accuracy: of the network as it is stored in the file; missing if the test recordings could not be read.
        parameters: number of trainable parameters, including delays.
        spikes_per_neuron: mean number for a recording, of each hidden layer.
        finished: the time when the run finished, in ISO format.
        versions: of the packages that the run was made with, by name.
        device: the name of the device that it was trained on.
    """

    format: int
    name: str
    config: dict[str, Any]
    data: CardData
    accuracy: dict[str, Share]
    stored_accuracy: NotRequired[Share]
    parameters: Count
    spikes_per_neuron: list[Amount]
    finished: str
    versions: dict[str, str]
    device: str
