"""The results of training one network."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor
from typing_extensions import TypedDict

from ..schema import Amount, Count, Number, Positive, Share


class Epoch(TypedDict):
    """One epoch of a run.

    Keys:
        epoch: from 1 on.
        sigma: in steps, during the epoch; None where it does not shrink.
        train_loss, train_accuracy: means over the training recordings, while the network changed.
        valid_accuracy: on the validation recordings after the epoch, in 0..1; None if the epoch was not validated.
        seconds: of training; waited: how many of these were spent waiting for data.
    """

    epoch: Positive
    sigma: Amount | None
    train_loss: Number
    train_accuracy: Share
    valid_accuracy: Share | None
    seconds: Amount
    waited: Amount


class Inference(TypedDict):
    """The costs of one recording after the last epoch, with whole delays: means over the test recordings.

    The terms are those of NeuroBench (Yik et al., "The NeuroBench framework for benchmarking neuromorphic computing
    algorithms and systems", Nature Communications 2025), but for a whole recording, where NeuroBench counts per step.

    Keys:
        steps: number of steps that each layer of neurons runs for; the readout is the last.
        active: number of nonzero values (of one channel in one step) in the input of each layer of synapses.
        operations: effective synaptic operations, the products of these values with nonzero weights, including
            recurrent ones: multiply-accumulates in the first layer, whose inputs are counts; accumulates in the others.
    """

    steps: list[Count]
    active: list[Amount]
    operations: list[Amount]


OnEpoch = Callable[[Epoch], object]


@dataclass
class Outcome:
    """The results of a run.

    Attributes:
        epochs: one entry per epoch.
        accuracy: on the test recordings of the task, by the rule that chose the epoch: "last epoch" and the task's.
        best_epoch: chosen by validation among the epochs after sigma stopped shrinking, or by the test set among all;
            the last one if no epoch is chosen.
        parameters: trainable, delays included.
        peak_memory_mb: of the process, or of the GPU.
        device: its name.
        neurons: what computed them, see `implementation`.
        spikes: of a neuron in each hidden layer, the mean number per test recording after the last epoch.
        inference: the costs of a test recording after the last epoch; None: not measured.
        example: (time, channel) of each input event of the first test recording, and of each spike that it causes in
            the hidden layers after the last epoch, int64 (2, E) each.
        delays: "before" and "after" training, of each layer with delays, in steps; (O, I, N) with NaN where there is
            no synapse, or (C,).
        weights: per layer, after training, (O, I) or (O, I, N); zero where there is no synapse.
        state: state dict of the network after the last epoch.
        graph: whether steps ran as CUDA graphs: "yes", or "no", perhaps with the reason.
    """

    epochs: list[Epoch] = field(default_factory=list)
    accuracy: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    parameters: int = 0
    peak_memory_mb: float = 0.0
    device: str = ""
    neurons: str = ""
    spikes: list[float] = field(default_factory=list)
    inference: Inference | None = None
    example: list[Tensor] = field(default_factory=list)
    delays: dict[str, list[Tensor]] = field(default_factory=dict)
    weights: list[Tensor] = field(default_factory=list)
    state: dict[str, Tensor] = field(default_factory=dict)
    graph: str = "no"
