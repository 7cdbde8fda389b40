import pytest
import torch

from delayplug.layers.engines import scratch as module
from delayplug.layers.engines.scratch import Scratch


def test_a_name_has_its_memory_again():
    scratch = Scratch(torch.zeros(1))
    first, other = scratch("a", 4, 5), scratch("b", 4, 5)
    assert first.shape == (4, 5)
    assert first.data_ptr() != other.data_ptr()
    smaller = scratch("a", 3, 2)
    assert smaller.shape == (3, 2)
    assert smaller.data_ptr() == first.data_ptr()
    assert scratch("a", 4, 5).data_ptr() == first.data_ptr()


def test_memory_grows_with_the_largest_request():
    scratch = Scratch(torch.zeros(1))
    scratch("a", 2)
    larger = scratch("a", 30, 2)
    assert larger.untyped_storage().nbytes() == 4 * 60
    assert scratch("a", 2).untyped_storage().nbytes() == 4 * 60


def test_it_has_the_type_and_device_of_its_model():
    tensor = Scratch(torch.zeros(1, dtype=torch.float64, device="meta"))("a", 2)
    assert tensor.dtype == torch.float64
    assert tensor.is_meta


def test_an_empty_shape_is_allowed():
    assert Scratch(torch.zeros(1))("a", 0, 3).shape == (0, 3)


LARGE = 2**18  # float32: one MiB


@pytest.fixture
def spare(monkeypatch):
    monkeypatch.setattr(module, "_spare", module._Spare())
    return module._spare


def test_large_pieces_serve_the_next_one(spare):
    like = torch.zeros(1, device="cpu")
    scratch = Scratch(like)
    first = scratch("a", LARGE).data_ptr()
    del scratch
    assert spare.nbytes == 4 * LARGE
    double = Scratch(like.double())
    assert double("other", LARGE // 2).data_ptr() == first
    assert double("a", LARGE // 2).data_ptr() != first  # in use
    assert double("b", 3).numel() == 3
    del double
    assert spare.nbytes == 8 * LARGE


def test_a_much_larger_piece_waits_for_larger_requests(spare):
    Scratch(torch.zeros(1, device="cpu"))("a", 5 * LARGE)
    small = Scratch(torch.zeros(1, device="cpu"))
    small("a", 2 * LARGE)
    assert spare.nbytes == 20 * LARGE


def test_spare_memory_is_bounded_and_can_be_freed(spare, monkeypatch):
    monkeypatch.setattr(module, "_MOST_SPARE", 9 * LARGE)
    scratch = Scratch(torch.zeros(1, device="cpu"))
    for name in "abc":
        scratch(name, LARGE)
    del scratch
    assert spare.nbytes == 8 * LARGE
    module.clear_spare()
    assert spare.nbytes == 0


def test_memory_made_in_inference_mode_serves_training(spare):
    like = torch.zeros(1, device="cpu")
    with torch.inference_mode():
        Scratch(like)("a", LARGE)
    assert not Scratch(like)("a", LARGE).is_inference()


@pytest.mark.parametrize("device", ["meta"])
def test_other_devices_have_their_own_allocators(spare, device):
    Scratch(torch.zeros(1, device=device))("a", LARGE)
    assert spare.nbytes == 0
