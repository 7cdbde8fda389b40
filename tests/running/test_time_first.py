"""A model that loops over another dimension than the first: said as such, by `unroll` and by `stream`."""

import norse.torch as norse
import pytest
import snntorch
import torch
from torch import Tensor, nn

from delayplug import SequenceError, UnrollError, add_delays, stream, unroll
from tests.networks import F, H, InitLeaky, O, sequence

pytestmark = pytest.mark.filterwarnings("ignore")


class BatchFirst(nn.Module):
    """(B, T, F), as many users of snnTorch write it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(F, H), snntorch.Leaky(0.9)
        self.fc2, self.lif2 = nn.Linear(H, O), snntorch.Leaky(0.9)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2, out = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for t in range(x.shape[1]):
            spk, mem1 = self.lif1(self.fc1(x[:, t]), mem1)
            spk, mem2 = self.lif2(self.fc2(spk), mem2)
            out.append(spk)
        return torch.stack(out, 1)


class TimeLast(nn.Module):
    """(B, F, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(F, H), norse.LIFCell()

    def forward(self, x: Tensor) -> Tensor:
        state, out = None, []
        for t in range(x.shape[-1]):
            z, state = self.lif(self.fc(x[..., t]), state)
            out.append(z)
        return torch.stack(out, -1)


X = sequence()
CASES = {
    "batch first": (BatchFirst, r"second dimension of its input, \(B, T, ...\)", X.transpose(0, 1)),
    "time last": (TimeLast, r"last dimension of its input, \(B, ..., T\)", X.movedim(0, -1)),
}


@pytest.mark.parametrize(("make", "match", "own"), CASES.values(), ids=CASES)
def test_time_must_come_first(make, match, own) -> None:
    net = add_delays(make(), 3, example=own)
    expected = net(own)
    for x in (X, own):
        with pytest.raises(UnrollError, match=f"{match}, and time must come first"):
            unroll(net, x)
    coming = stream(net.eval())
    for push, x in ((coming.push, X[0]), (coming.push_chunk, X)):
        with pytest.raises(SequenceError, match=f"{match}, and time must come first"):
            push(x)
    assert torch.equal(net.train()(own), expected)


def test_the_way_out_works() -> None:
    class TimeFirst(BatchFirst):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.transpose(0, 1)).transpose(0, 1)

    net = add_delays(TimeFirst(), 3, example=X)
    torch.testing.assert_close(unroll(net, X), net(X))


def test_other_errors_stay_as_they_are() -> None:
    class Broken(InitLeaky):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, :1]

    with pytest.raises(UnrollError) as error:
        unroll(add_delays(Broken(), 3, example=X), X)
    assert "time must come first" not in str(error.value)
