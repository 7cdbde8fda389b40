"""Augmented recordings."""

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from delayplug import ArgumentError
from delayplug.data import Augmented, Frames


def frames(number: int = 40) -> Frames:
    """Every step and channel of a recording has as many events as its number says, plus one."""
    counts = torch.arange(1, number + 1).view(1, -1, 1).expand(12, number, 7).to(torch.uint8)
    return Frames.dense(counts, torch.arange(number) % 4, ("a", "b", "c", "d"))


def test_off_by_default() -> None:
    plain = frames()
    augmented = Augmented(plain)
    assert len(augmented) == 40
    for index in (0, 7, -1):
        x, y = augmented[index]
        assert torch.equal(x, plain[index][0])
        assert y.argmax() == plain[index][1]
        assert y.sum() == y.max() == 1
    x, y = augmented.batch([3, 5])
    expected, labels = plain.batch([3, 5])
    assert torch.equal(x, expected)
    assert torch.equal(y.argmax(1), labels)


def empty_run(x: Tensor, dim: int) -> int:
    """How many steps (0) or channels (1) are empty; they must be neighbours."""
    empty = (x.sum(1 - dim) == 0).nonzero().flatten()
    assert len(empty) == 0 or int(empty[-1] - empty[0]) == len(empty) - 1
    return len(empty)


@pytest.mark.parametrize(("name", "dim"), [("time_mask", 0), ("channel_mask", 1)])
def test_masks(name: str, dim: int) -> None:
    """Neighbouring steps or channels, from none to as many as said, everywhere."""
    plain = frames(200)
    augmented = Augmented(plain, **{name: 3})
    lengths, places = set(), set()
    for index in range(200):
        x, y = augmented[index]
        lengths.add(empty_run(x, dim))
        places |= set((x.sum(1 - dim) == 0).nonzero().flatten().tolist())
        kept = x > 0
        assert torch.equal(x[kept], plain[index][0][kept])
        assert y.max() == 1
    assert lengths == {0, 1, 2, 3}
    assert places == set(range(12 if dim == 0 else 7))


def test_masks_longer_than_the_recording() -> None:
    x, _ = Augmented(frames(1), time_mask=10_000, channel_mask=0)[0]
    assert x.shape == (12, 7)


def test_cutmix_mixes_labels_by_events() -> None:
    plain = frames()
    mixed = 0
    for index in range(40):
        x, y = Augmented(plain, cutmix=1.0)[index]
        own = index + 1
        values = set(x.unique().tolist())
        assert own in values or len(values) == 1
        assert float(y.sum()) == pytest.approx(1)
        others = values - {own}
        if others:
            (other,) = others
            foreign = float(x[x == other].sum() / x.sum())
            expected = torch.zeros(4)
            expected[(own - 1) % 4] += 1 - foreign
            expected[(int(other) - 1) % 4] += foreign
            torch.testing.assert_close(y, expected)
            mixed += 1
            assert empty_run((x != other).float() * 1.0, 0) in range(13)  # one stretch
    assert mixed > 20


def test_anew_in_every_epoch_and_the_same_wherever_it_is_drawn() -> None:
    options = {"time_mask": 4, "channel_mask": 2, "cutmix": 0.5, "seed": 3}
    augmented = Augmented(frames(), **options)
    first = augmented.batch(range(40))
    again = [Augmented(frames(), **options)[index] for index in reversed(range(40))]
    assert torch.equal(first[0], torch.stack([x for x, _ in reversed(again)], 1))
    assert torch.equal(first[1], torch.stack([y for _, y in reversed(again)]))
    augmented.epoch = 1
    assert not torch.equal(first[0], augmented.batch(range(40))[0])
    assert not torch.equal(first[0], Augmented(frames(), **{**options, "seed": 4}).batch(range(40))[0])


def test_as_a_dataset_with_workers() -> None:
    augmented = Augmented(frames(8), time_mask=2, cutmix=0.5)
    loaded = DataLoader(augmented, batch_size=4, num_workers=2)
    x = torch.cat([part for part, _ in loaded])
    assert torch.equal(x.transpose(0, 1), augmented.batch(range(8))[0])


@pytest.mark.parametrize("options", [{"time_mask": -1}, {"channel_mask": -2}, {"cutmix": 1.5}, {"cutmix": -0.1}])
def test_impossible(options: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(options))):
        Augmented(frames(), **options)


def test_first_steps() -> None:
    cut = frames().first(5)
    assert cut.counts.shape == (5, 40, 7)
    assert torch.equal(cut.counts, frames().counts[:5])
    assert cut.padded(9).counts[5:].sum() == 0
    assert frames().first(50).steps == 50
    with pytest.raises(ArgumentError, match="steps"):
        frames().first(0)
