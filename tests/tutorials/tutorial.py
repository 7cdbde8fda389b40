"""What a user who follows a tutorial has, and does to get delays into it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

import delayplug
from delayplug.testing import Network

Run = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Attempt:
    """Arguments that a user tries for `add_delays`.

    Attributes:
        words: what they are, for the table.
        options: the arguments but `example`.
        example: whether the network's own way to run is passed, too.
    """

    words: str
    options: dict[str, Any]
    example: bool = False


@dataclass(frozen=True)
class Tutorial:
    """A network after a tutorial or example.

    Attributes:
        name: of the row.
        source: the tutorial or example of the toolkit that it is written after.
        backend: the toolkit's.
        network: the network, how it is driven, and the layers that get delays.
        steps, batch: of a training step of the tutorial, or less where it would take seconds.
        more: attempts after the first two, in the order in which the plan advises them.
        max_delay: in the training step that is timed.
        unrolled: how a user would run it with `unroll`; None where its neurons take sequences already.
    """

    name: str
    source: str
    backend: str
    network: Network
    steps: int
    batch: int
    more: tuple[Attempt, ...] = ()
    max_delay: int = 10
    unrolled: Run | None = delayplug.unroll

    def __str__(self) -> str:
        return self.name

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What a user tries, in this order."""
        return (Attempt("as it is", {}), Attempt("with an example", {}, example=True), *self.more)

    def sample(self) -> Tensor:
        """Input of a training step, (T, B, ...)."""
        return self.network.sample(self.steps, self.batch)

    def try_to_add(self, attempt: Attempt, net: nn.Module, max_delay: int, **options: Any) -> nn.Module:
        """Add delays with the arguments of an attempt.

        Raises:
            DelayplugError: the attempt fails, or some of the network's `layers` got no delays.
        """
        options = {**attempt.options, **options}
        if attempt.example:
            options["example"] = self.network.example
        delayplug.add_delays(net, max_delay, **options)
        got = {name for name, _ in delayplug.named_delays(net)}
        missing = set(self.network.layers) - got
        if missing:
            raise delayplug.DelayplugError(f"expected delays in {sorted(missing)}, too, got them in {sorted(got)}")
        return net
