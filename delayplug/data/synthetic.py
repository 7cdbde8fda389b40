"""The timing task: classes that differ only in the times of their spikes, not in their number.

Each class has a pattern, a permutation that says how many steps after the pattern's start each channel spikes. A
sample is one pattern at a random start, each spike jittered, among distractor spikes at random times. Every channel
has the same number of spikes in every sample, and without jitter no two channels of a pattern spike together: rates
carry no information and coincidences hardly any; delays that align a pattern tell its class. Those delays,
`C - 1 - offset`, are known: learned delays can be compared with them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError
from .frames import Frames


@dataclass(frozen=True)
class TimingTask:
    """Sizes of the task.

    Attributes:
        classes: number of patterns.
        channels: C; a pattern spreads over as many steps.
        steps: T, length of a sample; the pattern starts at any step from which it fits.
        jitter: standard deviation of each spike's time in steps.
        distractors: additional spikes per channel, at random steps.
        seed: of the patterns; the samples have their own.
    """

    classes: int = 10
    channels: int = 20
    steps: int = 50
    jitter: float = 0.5
    distractors: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("classes", "channels"):
            if getattr(self, name) < 2:
                raise ArgumentError(name, "at least 2", getattr(self, name))
        if self.steps < self.channels:
            raise ArgumentError("steps", f"at least the length of a pattern, {self.channels} steps", self.steps)
        if self.jitter < 0 or self.distractors < 0:
            raise ArgumentError("jitter, distractors", "values >= 0", f"{self.jitter}, {self.distractors}")

    def offsets(self) -> Tensor:
        """(classes, C) int64: steps from the start of a pattern to the spike of each channel."""
        numbers: dict[str, Any] = {"generator": torch.Generator().manual_seed(self.seed), "device": "cpu"}
        return torch.stack([torch.randperm(self.channels, **numbers) for _ in range(self.classes)])

    def planted_delays(self) -> Tensor:
        """(classes, C) int64: delays in steps that bring all spikes of a pattern to its last step."""
        return self.channels - 1 - self.offsets()

    def sample(self, size: int, seed: int) -> Frames:
        """Draw labelled samples, equally many of each class, or one more of some.

        Args:
            size: N.
            seed: of the samples.

        Returns:
            Frames (T, N, C), with 1 + distractors spikes per channel in each recording.
        """
        numbers: dict[str, Any] = {"generator": torch.Generator().manual_seed(seed), "device": "cpu"}
        labels = torch.arange(size, device="cpu") % self.classes
        labels = labels[torch.randperm(size, **numbers)]
        starts = torch.randint(self.steps - self.channels + 1, (size, 1), **numbers)
        jitter = (self.jitter * torch.randn(size, self.channels, **numbers)).round().long()
        pattern = (starts + self.offsets()[labels] + jitter).clamp(0, self.steps - 1)
        noise = torch.randint(self.steps, (self.distractors, size, self.channels), **numbers)
        times = torch.cat((pattern.unsqueeze(0), noise))  # (spikes per channel, N, C)
        counts = torch.zeros(self.steps, size, self.channels, dtype=torch.uint8, device="cpu")
        counts.scatter_add_(0, times, torch.ones_like(times, dtype=torch.uint8))
        return Frames.dense(counts, labels, tuple(str(label) for label in range(self.classes)))
