"""How kernels take constants: as numbers, one value, or one for each of a run of columns."""

import pytest
import torch

from delayplug.neurons.placement import EACH, NUMBER, ONE, as_column, place_constants


def test_kinds() -> None:
    x = torch.rand(5, 2, 3, 4)
    placement = place_constants([0.5, None, torch.tensor(0.25), torch.rand(3, 1), torch.rand(1, 3, 1)], x)
    assert placement is not None
    assert placement.kinds == (NUMBER, NUMBER, ONE, EACH, EACH)
    assert placement.numbers == (0.5, 0.0, 0.0, 0.0, 0.0)
    assert (placement.size, placement.repeat) == (3, 4)
    assert [None if t is None else t.shape for t in placement.tensors] == [None, None, (), (3,), (3,)]


def test_columns_are_those_of_their_constant() -> None:
    """Whatever dimensions of (B, ...) the constants have: product in columns = product by broadcasting."""
    x = torch.rand(5, 2, 3, 4)
    for shape in ((4,), (3, 1), (3, 4), (2, 1, 1), (2, 3, 4), (1, 1, 1)):
        constant = torch.rand(shape).requires_grad_()
        placement = place_constants([constant], x)
        assert placement is not None
        (tensor,), columns = placement.tensors, placement.columns(x, 1)
        assert tensor is not None
        assert columns is not None
        assert torch.equal((columns * as_column(tensor)).reshape(x.shape), x * constant)
        weight = torch.rand(2, 3, 4)
        (expected,) = torch.autograd.grad((weight * constant).sum(), constant)
        total = placement.total(weight.flatten(), tensor)
        (got,) = torch.autograd.grad(tensor, constant, total)
        torch.testing.assert_close(got, expected)
    assert placement.columns(None, 1) is None


@pytest.mark.parametrize("value", [torch.rand(5), torch.rand(4).double(), torch.rand(1, 1, 3, 4)])
def test_what_does_not_go_together(value: torch.Tensor) -> None:
    assert place_constants([value], torch.rand(5, 3, 4)) is None
