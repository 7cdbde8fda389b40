"""What is kept between calls: never more bytes than it may be, and nothing after `clear_caches`."""

import gc
import threading
import weakref

import pytest
import torch
from hypothesis import given, settings, strategies as st

from delayplug import LearnableDelay, clear_caches
from delayplug.layers.engines import transforms
from delayplug.layers.engines.caches import ByteCache
from delayplug.layers.engines.transforms import Size, analysis, synthesis
from tests.profiles import examples


@settings(max_examples=examples(60))
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 40)), max_size=60), st.integers(0, 100))
def test_the_bound_holds_and_the_least_recently_used_go_first(calls, limit):
    cache, sizes, used = ByteCache(limit, len), {}, []  # used: keys that must be there, the latest last
    for key, size in calls:
        size = sizes.setdefault(key, size)
        made = []
        value = cache.get(key, lambda made=made, size=size: made.append(size) or bytes(size))
        assert value == bytes(size)
        assert bool(made) == (key not in used)
        used = [k for k in used if k != key] + ([key] if size <= limit else [])
        while sum(sizes[k] for k in used) > limit:
            used.pop(0)
        assert cache.nbytes == sum(sizes[k] for k in used) <= limit
        assert len(cache) == len(used)
    cache.clear()
    assert cache.nbytes == len(cache) == 0


def test_threads_count_a_value_once():
    cache, start = ByteCache(10**6, len), threading.Barrier(8)

    def work():
        start.wait(10)
        for i in range(300):
            assert len(cache.get(i % 20, lambda i=i: bytes(i % 20))) == i % 20
            if i % 50 == 0:
                cache.clear()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for key in range(20):
        cache.get(key, lambda key=key: bytes(key))
    assert cache.nbytes == sum(range(20))


def kind(size, steps):
    return size, steps, torch.float64, torch.device("cpu")


def test_transforms_keep_to_a_bound(monkeypatch):
    clear_caches()
    cache = ByteCache(100_000, lambda transform: transform.nbytes)
    monkeypatch.setattr(transforms, "_cache", cache)
    for steps in range(40, 64):
        analysis(*kind(Size(4, 16), steps))
        synthesis(*kind(Size(4, 16), steps))
        assert 0 < cache.nbytes <= 100_000
    assert analysis(*kind(Size(4, 16), 63)) is analysis(*kind(Size(4, 16), 63))
    assert analysis(*kind(Size(4, 16), 63)) is not synthesis(*kind(Size(4, 16), 63))


@pytest.mark.parametrize("size", [Size(2, 32), Size(16, 32)], ids=["at once", "folded"])
def test_cleared_transforms_are_freed_and_come_back_equal(size):
    transform = analysis(*kind(size, size.total))
    assert analysis(*kind(size, size.total)) is transform
    mix, gone = transform.mix.clone(), weakref.ref(transform.mix)
    del transform
    clear_caches()
    gc.collect()
    assert gone() is None
    assert torch.equal(analysis(*kind(size, size.total)).mix, mix)


def test_layers_give_the_same_after_clear_caches():
    torch.manual_seed(0)
    layer, x = LearnableDelay(8, 6, max_delay=20, engine="fft"), torch.rand(120, 4, 8)
    expected = layer(x)
    assert transforms._cache.nbytes > 0
    clear_caches()
    assert transforms._cache.nbytes == 0
    y = layer(x)
    assert torch.equal(y, expected)
    clear_caches()  # what a backward pass needs is made again
    y.sum().backward()
    assert layer.delays.grad.isfinite().all()
