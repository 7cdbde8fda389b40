"""Running a network from an explicit state, with the state on its modules left as it was.

Shapes: T steps, B batch.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SequenceError
from ..layers.base import DelayLayer
from ..layers.state import DelayState
from ..surgery.delayed import Delayed, StatefulDelayed
from ..surgery.patch import replaced_forward
from ..toolkits.capabilities import Streams, streams
from ..toolkits.states import with_own_containers
from ..toolkits.toolkit import Toolkit


@dataclass(frozen=True)
class Carried:
    """All that a network carries from one part of a sequence to the next. The fields are keys of a saved state.

    Attributes:
        delays: the states of delays, by the names of their layers.
        kept: what modules hold on themselves (`Streams.kept_state`), by their names.
        user: the state that the caller of the model passes.
    """

    delays: dict[str, DelayState] = field(default_factory=dict)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    user: Any = None


# advance(input (T, B, ...), state of the caller) gives (outputs, next state of the caller)
Run = Callable[[Tensor, Any], tuple[Any, Any]]


class Carrier:
    """Moves what is carried onto the modules of a model, runs it, and takes it off again."""

    def __init__(self, model: nn.Module, toolkit: Toolkit | None) -> None:
        """`toolkit` is the one of the neurons in the model, None without neurons."""
        self.model = model
        self._streams = Streams() if toolkit is None else streams(toolkit)

    @torch.no_grad()
    def run(
        self, advance: Run, x: Tensor, carried: Carried | None, start: Callable[[], Any] | None = None
    ) -> tuple[Any, Carried]:
        """Run a part of a sequence.

        Args:
            advance: runs the model on the part.
            x: the part, (T, B, ...).
            carried: the state before it; None begins a sequence.
            start: the state of the caller at the beginning; without it, None.

        Returns:
            The outputs, and the state after the part.
        """
        modules = dict(self.model.named_modules())
        delayed = {n: m for n, m in modules.items() if isinstance(m, Delayed) and not isinstance(m, StatefulDelayed)}
        keeping = {name: module for name, module in modules.items() if self._streams.kept_state(module)}
        with ExitStack() as carrying:
            for module in keeping.values():  # at the end of the block each has its own state again
                carrying.callback(self._streams.put_state, module, self._streams.kept_state(module))
            if carried is None:
                for module in keeping.values():
                    # Some reset in place, which must not reach what was put aside.
                    own = self._streams.kept_state(module)
                    own = {name: v.clone() if isinstance(v, Tensor) else v for name, v in own.items()}
                    self._streams.put_state(module, own)
                    self._streams.reset(module)
                delays, user = {}, None if start is None else start()
            else:
                delays, user = carried.delays, with_own_containers(carried.user)
                for name, module in keeping.items():
                    self._streams.put_state(module, carried.kept[name])
            for name, layer in delayed.items():
                carrying.enter_context(layer.delay_memory.carry(delays.get(name)))
            with _states_of_lone_delays(modules, delays) as after:
                y, user = advance(x, user)
            after |= {n: m.delay_memory.state for n, m in delayed.items() if m.delay_memory.state is not None}
            kept = {name: self._streams.kept_state(module) for name, module in keeping.items()}
            return y, Carried(after, kept, user)


@contextmanager
def _states_of_lone_delays(
    modules: Mapping[str, nn.Module], delays: Mapping[str, DelayState]
) -> Iterator[dict[str, DelayState]]:
    """Within the block, layers of delays that are not part of another layer continue from their states.

    Yields the dictionary that gets their next states.
    """
    after: dict[str, DelayState] = {}
    inside = {id(module.delay) for module in modules.values() if isinstance(module, Delayed)}
    with ExitStack() as stack:
        for name, layer in modules.items():
            if isinstance(layer, DelayLayer) and id(layer) not in inside:
                stack.enter_context(replaced_forward(layer, _continuing(name, layer, delays.get(name), after)))
        yield after


def _continuing(
    name: str, layer: DelayLayer, state: DelayState | None, after: dict[str, DelayState]
) -> Callable[..., Tensor]:
    def forward(x: Tensor, tail: int = 0, weight: Tensor | None = None) -> Tensor:
        if tail:
            raise SequenceError(
                f"{name or 'the model'} appends {tail} steps to a sequence, and a stream has no end: call it without a "
                f"tail, and push {tail} steps of silence behind the input for what arrives late"
            )
        if name in after:
            raise SequenceError(f"{name} runs more than once for one part: its calls cannot be told apart")
        y, after[name] = layer.chunk(x, state, weight)
        return y

    return forward
