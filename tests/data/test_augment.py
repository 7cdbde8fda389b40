"""Augmented recordings."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from delayplug import ArgumentError
from delayplug.data import Augmented, Frames
from delayplug.data.augment import cell_numbers, cell_table, scaled_steps, shifted_channels

EVERYTHING = {"time_mask": 4, "channel_mask": 2, "cutmix": 0.5, "channel_shift": 2, "blend": 0.5, "thin": 0.3}
EVERYTHING |= {"time_scale": 0.2}


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
    options = {**EVERYTHING, "seed": 3}
    augmented = Augmented(frames(), **options)
    first = augmented.batch(range(40))
    again = [Augmented(frames(), **options)[index] for index in reversed(range(40))]
    assert torch.equal(first[0], torch.stack([x for x, _ in reversed(again)], 1))
    assert torch.equal(first[1], torch.stack([y for _, y in reversed(again)]))
    augmented.epoch = 1
    assert not torch.equal(first[0], augmented.batch(range(40))[0])
    assert not torch.equal(first[0], Augmented(frames(), **{**options, "seed": 4}).batch(range(40))[0])


def test_as_a_dataset_with_workers() -> None:
    augmented = Augmented(frames(8), time_mask=2, cutmix=0.5, thin=0.2)
    loaded = DataLoader(augmented, batch_size=4, num_workers=2)
    x = torch.cat([part for part, _ in loaded])
    assert torch.equal(x.transpose(0, 1), augmented.batch(range(8))[0])


def test_draws_of_the_first_three_options_stay() -> None:
    """Runs of earlier versions are made again with the same numbers, and no option changes what others draw."""
    old = {"time_mask": 4, "channel_mask": 3, "cutmix": 0.5}
    augmented = Augmented(frames(), **old, seed=3, epoch=2)
    changes = augmented.changes()
    assert changes.other[:4].tolist() == [9, 6, 39, 38]
    assert changes.cut[:4].tolist() == [[7, 12], [0, 0], [0, 0], [3, 3]]
    assert changes.steps[:4].tolist() == [[8, 12], [12, 12], [2, 5], [6, 6]]
    assert changes.channels[:4].tolist() == [[4, 6], [1, 1], [2, 5], [2, 5]]
    x, y = augmented.batch(range(40))
    assert (float(x.sum()), int(y.argmax(1).sum())) == (42599, 67)
    every = Augmented(frames(), **{**EVERYTHING, **old}, seed=3, epoch=2).changes()
    for name in ("other", "cut", "steps", "channels"):
        assert torch.equal(getattr(every, name), getattr(changes, name))
    for name in ("channel_shift", "blend", "thin", "time_scale"):
        alone = Augmented(frames(), **{name: EVERYTHING[name]}, seed=3, epoch=2)
        assert torch.equal(alone.changes().partner_keys, every.partner_keys)
        changed = {"channel_shift": "shift", "blend": "partner", "thin": "thin_limit", "time_scale": "pace"}[name]
        assert torch.equal(getattr(alone.changes(), changed), getattr(every, changed))


def test_channels_are_shifted() -> None:
    """By whole numbers from -n to n, each as often; the border is empty, and the label stays."""
    counts = torch.arange(1, 8).expand(3, 600, 7).to(torch.uint8)
    augmented = Augmented(Frames.dense(counts, torch.arange(600) % 2, ("a", "b")), channel_shift=2)
    shifts = []
    for index in range(600):
        x, y = augmented[index]
        shift = int(augmented.changes().shift[index])
        expected = torch.tensor([float(c + 1 - shift) if 0 <= c - shift < 7 else 0.0 for c in range(7)])
        assert torch.equal(x, expected.expand(3, 7))
        assert y.tolist() == [1 - index % 2, index % 2]
        shifts.append(shift)
    often = np.bincount(np.add(shifts, 2), minlength=5)
    assert len(often) == 5
    assert often.min() > 80


def test_a_shift_beyond_all_channels() -> None:
    source, outside = shifted_channels(torch.tensor([9, -9, 0]), 4)
    assert outside.tolist() == [[True] * 4, [True] * 4, [False] * 4]
    assert source[2].tolist() == [0, 1, 2, 3]


def test_blending_takes_half_of_the_cells_from_another_recording_of_the_class() -> None:
    plain, alone = frames(), Frames.dense(torch.ones(4, 2, 3, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"))
    augmented, partners, share = Augmented(plain, blend=1.0), set(), []
    for augmented.epoch in range(30):
        for index in range(40):
            x, y = augmented[index]
            (other,) = set(x.unique().tolist()) - {index + 1.0}
            assert (other - 1) % 4 == index % 4
            assert torch.equal(y, torch.eye(4)[index % 4])
            share.append(float((x == other).float().mean()))
            if index == 0:
                partners.add(int(other) - 1)
    assert np.mean(share) == pytest.approx(0.5, abs=0.006)
    assert np.std(share) == pytest.approx(0.5 / 84**0.5, abs=0.005)  # of 84 cells, each by itself
    assert partners == set(range(4, 40, 4))
    some = [len(Augmented(plain, blend=0.3, seed=2)[index][0].unique()) == 2 for index in range(40)]
    assert 5 <= sum(some) <= 20
    assert torch.equal(Augmented(alone, blend=1.0).batch([0, 1])[0], alone.batch([0, 1])[0])


def test_blended_and_mixed() -> None:
    """The stretch of another recording is whole, and the label counts it against the mean of the two of the class."""
    plain = frames()
    augmented = Augmented(plain, blend=1.0, cutmix=1.0, seed=1)
    changes, seen = augmented.changes(), 0
    for index in range(40):
        x, y = augmented[index]
        start, stop = changes.cut[index].tolist()
        other, partner = int(changes.other[index]), int(changes.partner[index])
        if start == stop or other % 4 == index % 4:
            continue
        seen += 1
        assert (x[start:stop] == other + 1).all()
        taken, rest = (other + 1) * (stop - start), (index + partner + 2) / 2 * (12 - stop + start)
        assert float(y[other % 4]) == pytest.approx(taken / (taken + rest))
        assert float(y.sum()) == pytest.approx(1)
    assert seen > 10


def test_thinning_empties_cells() -> None:
    """Each recording loses a share of its own, and cells stay whole or go."""
    plain = Frames.dense(torch.full((50, 300, 40), 3, dtype=torch.uint8), torch.zeros(300, dtype=torch.int64), ("a",))
    x, _ = Augmented(plain, thin=0.6).batch(range(300))
    assert x.unique().tolist() == [0, 3]
    shares = (x == 0).float().mean((0, 2))
    assert shares.max() < 0.63
    assert shares.min() < 0.03
    assert np.histogram(shares, 4, (0, 0.6))[0].min() > 50
    assert not torch.equal(x[:, 0] == 0, x[:, 1] == 0)


def test_cells_of_blending_and_thinning_are_drawn_apart() -> None:
    plain = Frames.dense(
        torch.arange(1, 3).view(1, 2, 1).expand(80, 2, 80).to(torch.uint8), torch.zeros(2, dtype=torch.int64), ("a",)
    )
    augmented = Augmented(plain, blend=1.0, thin=0.999, seed=4)
    share = float(augmented.changes().thin_limit[0] + 2.0**31) / 2**32
    assert 0.2 < share < 0.8  # of this seed
    x, _ = augmented[0]
    for value in (1, 2):
        assert float((x == value).float().mean()) == pytest.approx((1 - share) / 2, abs=0.02)


def test_random_numbers_of_cells() -> None:
    """Uniform, and without correlation between neighbours, recordings or keys."""
    table, generator = cell_table(60, 50), np.random.default_rng(0)
    keys = torch.from_numpy(generator.integers(-(2**31), 2**31, (40, 2)).astype(np.int32)) | torch.tensor([1, 0])
    numbers = cell_numbers(table.unsqueeze(1), keys.int())
    assert numbers.shape == (60, 40, 50)
    assert torch.equal(numbers[:, 7], cell_numbers(table, keys.int()[7]))
    exact = (table.long()[:, None] * keys[:, None, 0] + keys[:, None, 1]) & 0xFFFFFFFF
    assert torch.equal(numbers.long() & 0xFFFFFFFF, exact)
    z = numbers.transpose(0, 1).double() / 2**31 * 3**0.5  # mean 0, variance 1
    assert abs(float(z.mean())) < 4 / z.numel() ** 0.5
    assert float(z.var()) == pytest.approx(1, abs=0.02)
    for a, b in ((z[:, 1:], z[:, :-1]), (z[..., 1:], z[..., :-1]), (z[1:], z[:-1])):
        of_each = (a * b).mean((1, 2)) * a[0].numel() ** 0.5
        assert of_each.abs().max() < 4.5
        assert abs(float(of_each.mean())) < 0.8


def test_time_is_scaled() -> None:
    """Step t of the result is the step at the same share of the length; the longest is cut, the rest is empty."""
    lengths = torch.tensor([10, 20, 30] * 40)
    starts = lengths.cumsum(0) - lengths
    rows = torch.cat([torch.arange(1, n + 1) for n in lengths.tolist()]).view(-1, 1).to(torch.uint8)
    plain = Frames(rows, starts, lengths, 30, torch.zeros(120, dtype=torch.int64), ("a",))
    augmented, factors = Augmented(plain, time_scale=0.3), []
    for index, length in enumerate(lengths.tolist()):
        factor = 65536 / int(augmented.changes().pace[index])
        expected = [int((t + 0.5) / factor) + 1 for t in range(30) if int((t + 0.5) / factor) < length]
        x = augmented[index][0].flatten().tolist()
        assert x == expected + [0] * (30 - len(expected))
        assert len(expected) == pytest.approx(min(30, length * factor), abs=1)
        factors.append(factor)
    assert np.histogram(factors, 4, (0.7, 1.3))[0].min() > 15
    assert np.histogram(factors, 4, (0.7, 1.3))[0].sum() == 120
    source, outside = scaled_steps(torch.tensor([65536]), 12)
    assert source.flatten().tolist() == list(range(12))
    assert not outside.any()


IMPOSSIBLE = [{"time_mask": -1}, {"channel_mask": -2}, {"cutmix": 1.5}, {"cutmix": -0.1}, {"channel_shift": -1}]
IMPOSSIBLE += [{"channel_shift": 7}]  # of 7 channels
IMPOSSIBLE += [{"blend": 1.1}, {"thin": 1.0}, {"thin": -0.1}, {"time_scale": 1.0}]


@pytest.mark.parametrize("options", IMPOSSIBLE)
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
