import pytest
import torch
from torch import nn

from delayplug import ArgumentError, DelayHistory, LearnableDelay


def model() -> nn.Module:
    return nn.ModuleDict({"fc": LearnableDelay(10, 8, max_delay=6), "axon": LearnableDelay(3, max_delay=6)})


def test_followed_delays_are_different_ones_and_always_the_same() -> None:
    net = model()
    history = DelayHistory(net, follow=4)
    assert history.followed["axon"] == [(0,), (1,), (2,)]
    followed = history.followed["fc"]
    assert len(set(followed)) == 4
    assert len({index[1] for index in followed}) > 1
    assert followed == DelayHistory(net, follow=4).followed["fc"]
    assert history.delays("fc")[0].tolist() == [net["fc"].delays[index].item() for index in followed]
    assert DelayHistory(model(), follow=0).delays("fc").shape == (1, 0)


def test_records_do_not_follow_the_layer() -> None:
    net = model()
    history = DelayHistory(net)
    first = net["fc"].delays.detach().cpu().clone()
    with torch.no_grad():
        net["fc"].delays.fill_(2)
    assert torch.equal(history.first["fc"], first)
    assert history.quantiles("fc")[0].tolist() == pytest.approx(
        first.quantile(torch.tensor(history.probabilities, device="cpu")).tolist()
    )
    history.record()
    assert len(history) == 2
    assert history.quantiles("fc")[1].tolist() == [2] * 5
    assert history.delays("fc")[1].tolist() == [2] * 8


def test_state_dict() -> None:
    history = DelayHistory(model(), follow=2)
    history.record()
    other = DelayHistory(model(), follow=5)
    other.load_state_dict(history.state_dict())
    other.record()
    assert len(other) == 3
    assert torch.equal(other.delays("fc")[:2], history.delays("fc"))
    assert torch.equal(other.first["axon"], history.first["axon"])
    with pytest.raises(ArgumentError, match="state: expected that of layers"):
        DelayHistory(LearnableDelay(3, max_delay=2)).load_state_dict(history.state_dict())


@pytest.mark.parametrize(
    ("follow", "message"),
    [
        (-1, "follow: expected an integer >= 0"),
        ({"fc2": [(0, 0, 0)]}, "follow: expected names among fc, axon, got fc2"),
        ({"fc": [(0, 0)]}, "follow: expected indices into delays"),
        ({"fc": [(8, 0, 0)]}, "follow: expected indices into delays"),
    ],
)
def test_wrong_follow(follow, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        DelayHistory(model(), follow)
