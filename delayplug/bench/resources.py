"""The resources of runs, which do not change their results, but for rounding. Imports no torch: commands list them."""

from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import ArgumentError

Launcher = Literal["here", "local", "ray"]
LAUNCHERS: tuple[Launcher, ...] = get_args(Launcher)

MOST_THREADS = 1024  # with some more than that, torch ends the process


@dataclass(frozen=True)
class Resources:
    """The devices and threads of one run.

    Attributes:
        accelerator: as Lightning takes it: "auto", "cpu", "gpu", ...
        devices: processes on each node, one for each device.
        nodes: computers.
        threads: of torch on a CPU; its own choice if None.
        graph: run the steps of one process on a GPU as CUDA graphs, where they can be.

    Raises:
        ArgumentError: a number of threads that cannot be.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    threads: int | None = None
    graph: bool = True

    def __post_init__(self) -> None:
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise ArgumentError("threads", f"an integer in 1..{MOST_THREADS}", self.threads)

    @property
    def label(self) -> str:
        """The devices as text, such as "2 x gpu"."""
        number = self.devices * self.nodes
        return self.accelerator if number == 1 else f"{number} x {self.accelerator}"
