import torch

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
