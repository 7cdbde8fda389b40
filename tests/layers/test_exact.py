"""`exact`: what is known to be spikes or small counts."""

import pytest
import torch

from delayplug.layers import exact
from delayplug.layers.exact import half_of, is_exact, mark_exact


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.bfloat16])
def test_some_dtypes_hold_nothing_else(dtype: torch.dtype) -> None:
    assert is_exact(torch.ones(3, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int16, torch.int64])
def test_others_may_hold_anything(dtype: torch.dtype) -> None:
    assert not is_exact(torch.ones(3, dtype=dtype))


def test_a_mark_counts_for_views_and_not_for_results() -> None:
    x = mark_exact(torch.ones(4, 3))
    assert is_exact(x)
    assert is_exact(x.flatten())
    assert is_exact(x.detach()[1:])
    assert not is_exact(x * 1)


def test_a_mark_counts_until_somebody_writes() -> None:
    x = mark_exact(torch.ones(3))
    x.view(-1).mul_(0.3)
    assert not is_exact(x)


def test_numbers_in_half_precision() -> None:
    """Of all of x, in its order and until somebody writes to it."""
    half = torch.ones(4, 3, dtype=torch.bfloat16)
    x = mark_exact(torch.ones(4, 3), half)
    assert half_of(x).data_ptr() == half_of(mark_exact(x)).data_ptr() == half.data_ptr()
    assert half_of(x.detach().view(2, 2, 3)).shape == (2, 2, 3)
    assert all(half_of(other) is None for other in (x[1:], x[:2], x.T, x * 1, half, torch.ones(4, 3)))
    x.mul_(2)
    assert half_of(x) is None
    assert half_of(mark_exact(x)) is None


def test_a_recording_trusts_its_own_marks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is marked before may be filled with anything by the time the recording is replayed."""
    before = mark_exact(torch.ones(3))
    monkeypatch.setattr(exact, "_is_recorded", lambda x: True)
    within = mark_exact(torch.ones(3))
    assert not is_exact(before)
    assert is_exact(within)
    monkeypatch.undo()
    assert is_exact(before)
    assert is_exact(within)


def test_where_writing_is_not_counted_nothing_is_known() -> None:
    with torch.inference_mode():
        x = mark_exact(torch.ones(3))
        x.mul_(0.3)
        assert not is_exact(x)


def test_within_transforms_nothing_is_known() -> None:
    known = []
    torch.func.vmap(lambda x: known.append(is_exact(mark_exact(x))) or x)(torch.ones(2, 3))
    assert known == [False]
