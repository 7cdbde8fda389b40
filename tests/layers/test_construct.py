"""`construct`: when taps are made by kernels, and in how many launches."""

import torch

from delayplug import LearnableDelay
from delayplug.layers.construct import can_construct, construct
from tests.layers.kernels import DEVICE, needs_triton, running
from tests.layers.launches import launches

pytestmark = needs_triton


def test_kernels_take_float32_and_no_empty_tensors() -> None:
    delays = torch.rand(3, 4, 2, device=DEVICE)
    assert not can_construct(delays.cpu())
    with running():
        assert can_construct(delays)
        assert not can_construct(delays.double())
        assert not can_construct(delays[:0])
        assert not can_construct(torch.rand(2, 100, device=DEVICE))


def test_parameters_that_do_not_lie_side_by_side() -> None:
    delays, weights = (
        torch.rand(4, 3, 2, device=DEVICE).transpose(0, 1) * 5,
        torch.randn(3, 4, 4, device=DEVICE)[..., ::2],
    )
    sigma = torch.rand(4, 3, 2, device=DEVICE).transpose(0, 1) + 1
    with running():
        found = construct(delays, weights, sigma, 6, "gauss", 0.0)
        expected = construct(delays.contiguous(), weights.contiguous(), sigma.contiguous(), 6, "gauss", 0.0)
    assert found.shape == (6, 3, 4)
    assert torch.equal(found, expected)


def test_a_kernel_forward_and_backward_is_few_launches() -> None:
    layer, grad = LearnableDelay(20, 18, max_delay=4).to(DEVICE), torch.ones(5, 18, 20, device=DEVICE)
    with running(), launches() as names:
        layer.kernel().backward(grad)
    brought_into_range = ["aten.nan_to_num_", "aten.clamp_"]
    assert names == [*brought_into_range, "delayplug.make_taps", "delayplug.taps_gradients"]


def test_one_width_for_all_takes_one_sum_more() -> None:
    layer = LearnableDelay(20, 18, max_delay=4, learn_sigma="layer").to(DEVICE)
    grad = torch.ones(5, 18, 20, device=DEVICE)
    with running(), launches() as names:
        layer.kernel().backward(grad)
    assert names[-3:] == ["delayplug.make_taps", "delayplug.taps_gradients", "aten.sum"]
    assert layer.sigma is not None
    assert layer.sigma.grad is not None
    assert layer.sigma.grad.shape == ()
