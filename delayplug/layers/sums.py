"""What the inputs of a sequence have given so far, so that a step need not weigh the last K of them again.

The same input at every step, as networks get it that present an image for some steps, makes a running sum: from silence

    y[t] = sum_{k=0..min(t, D)} tap[k] x = y[t - 1] + tap[t] x,        and y[t] = y[t - 1] for t > D,

which is one product per step, and not K. Of inputs that change, all K products are made when an input comes, and added
to the next K outputs: where there are fewer outputs than inputs that takes less memory than the last K inputs do.

Shapes: D = max_delay, K = D + 1 ages of an input, B batch, O outputs.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

# Numbers of the last K inputs of all samples, from which on keeping them costs more than some more operations per step.
LEAST_WINDOW = 1 << 17


class Ages:
    """A kernel (K, *S), by the age of the input, and in the form that a step over the last K inputs takes.

    No tuple, so that whoever looks for the tensors of a state does not find these.
    """

    __slots__ = ("_joined", "kernel", "requires_grad", "taps")

    def __init__(self, kernel: Tensor) -> None:
        # Parts of one kernel: the gradients of all of them are put together in one piece of memory.
        self.kernel, self.taps, self.requires_grad = kernel, kernel.unbind(0), kernel.requires_grad
        self._joined: Tensor | None = None

    def detach(self) -> "Ages":
        """The same kernel without its graph, as for a tensor."""
        return Ages(self.kernel.detach())

    def joined(self, join: Callable[[Tensor], Tensor]) -> Tensor:
        """The form of all ages together, made at the first call."""
        if self._joined is None:
            self._joined = join(self.kernel)
        return self._joined


class Sums:
    """How often the last input has come in a row, and what it and those before it give.

    Attributes:
        count: steps in a row with this input; 0 before a sequence.
        silent: whether nothing was under way before them.
        x: the input as it was at the first of these steps, which nobody writes to; None where no product will be made.
        total: the last output without bias, which nobody else writes to; None if it is not known.
        pending: (K, *batch, O), of event-driven steps: what the first of these steps gives in the steps after it.
        outputs: (*batch, K, O), the output of the last step and of the next ones as far as they are known, without
            bias; None if they are not.
        inputs: the last inputs with their graphs, of which the history of the state has only the values.
        history: of the state that this is part of. Whoever makes another state out of that, as by detaching all of its
            tensors, makes another history.
    """

    __slots__ = (
        *("_given", "_mode", "_version"),
        *("count", "history", "inputs", "outputs", "pending", "silent", "total", "x"),
    )

    def __init__(self, given: Tensor | None = None, count: int = 0, *, silent: bool = True) -> None:
        """Without arguments: before a sequence. `given` is the input as the caller has it."""
        self.count, self.silent = count, silent
        self.x: Tensor | None = None
        self.total: Tensor | None = None
        self.pending: Tensor | None = None
        self.outputs: Tensor | None = None
        self.inputs: tuple[Tensor, ...] = ()
        self.history: Tensor | None = None
        self._given, self._version, self._mode = given, _version(given), _mode(given)

    def followed_by(self, given: Tensor, x: Tensor, history: Tensor) -> "Sums":
        """At the next step; x is the input prepared for products, `history` (D, *x) has those before it."""
        if not self.count:
            after = Sums(given, 1)
            after.x = x.clone()
            return after
        if not history.shape[0] or not self._is(given, x, history):
            return Sums(given, 1, silent=False)
        after = Sums(given, self.count + 1, silent=self.silent)
        after.x, after.total, after.pending = self.x, self.total, self.pending
        return after

    def cut(self, history: Tensor) -> "Sums | None":
        """The same for a state that is cut off from its graph; None where the input has a graph itself."""
        if self._mode[1] or self.inputs:
            return None
        after = Sums(self._given, self.count, silent=self.silent)
        after.x, after._version, after._mode, after.history = self.x, self._version, self._mode, history
        return after

    def detach(self) -> "Sums":
        """Itself, for whoever detaches the parts of a state one by one: they belong to the history that is detached."""
        return self

    def with_new_kernel(self) -> "Sums":
        """The same for a kernel that has changed on the way: what the old one gave is not part of the output."""
        after = Sums(self._given, self.count, silent=False)
        after._version = self._version
        return after

    def tells_all(self, max_delay: int) -> bool:
        """Whether the output of the next step is that of this one, and what this input adds."""
        return self.silent or self.count > max_delay

    def with_graphs(self, history: Tensor) -> Tensor:
        """The history (D, *x) that this belongs to, with the graphs of its inputs."""
        inputs = self.inputs[-history.shape[0] :] if history.shape[0] else ()
        return torch.cat((history[: history.shape[0] - len(inputs)], torch.stack(inputs))) if inputs else history

    def _is(self, given: Tensor, x: Tensor, history: Tensor) -> bool:
        before = self._given
        if before is None or (given is not before and given.data_ptr() != before.data_ptr()):
            return False
        if self._mode != _mode(given) or history.shape[1:] != x.shape:
            return False
        same = given is self._given and self._version == _version(given)
        if x.device.type != "cpu":
            return same  # comparing values would wait
        # Views of one tensor are equal; and what numpy writes into a tensor torch does not count.
        return (same or not given.requires_grad) and torch.equal(x, history[-1])


def in_next_steps(products: Tensor, count: int) -> Tensor:
    """What an input gives that has come `count` times in a row, at the last of these steps and the next ones.

    Args:
        products: (*batch, K, O), the products with the taps of all ages.
        count: >= 1.

    Returns:
        (*batch, K, O).
    """
    if count == 1:
        return products
    return functional.pad(products, (0, 0, 0, count - 1)).unfold(-2, count, 1).sum(-1)


def one_step_later(outputs: Tensor) -> Tensor:
    """Outputs that are known, (*batch, K, O), as they are one step later, when the first of them is past."""
    return functional.pad(outputs[..., 1:, :], (0, 0, 0, 1))


def _version(tensor: Tensor | None) -> int:
    return 0 if tensor is None or tensor.is_inference() else tensor._version


def _mode(given: Tensor | None) -> tuple[bool, bool, bool]:
    """How gradients are computed: two inputs are the same only if they are in that, too."""
    wants = given is not None and given.requires_grad
    return torch.is_grad_enabled(), wants, torch.is_inference_mode_enabled()
