"""What a graph does not have is refused by name; what only looks like it is understood."""

from typing import Any

import pytest
import torch
from torch import nn

from delayplug import ExchangeError, to_nir
from tests.exchange.models import F, Net, X, from_nir, spikes

DT = 1e-3


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda n, s, m, x: n.fc2(s).relu(), "before lif2: the operation relu in the forward of the model"),
        (lambda n, s, m, x: n.fc2(s).clamp(min=0), "before lif2: the operation clamp"),
        (lambda n, s, m, x: n.fc2(s * n.offset), "before fc2: the operation mul"),
        (lambda n, s, m, x: n.fc2(s + n.offset), "before fc2: the operation add"),
        (lambda n, s, m, x: n.fc2(s + 1.0), "before fc2: the operation add"),
        (lambda n, s, m, x: n.fc2(s * x), "before fc2: the operation mul"),
        (lambda n, s, m, x: n.fc2(s.flip(-1)), "before fc2: the operation flip"),
        (lambda n, s, m, x: n.fc2(torch.cat([s[:, :2], x[:, 2:]], 1)), "before fc2: cat of different results"),
        (lambda n, s, m, x: n.fc2(m), "fc2 takes the state of lif1, such as its membrane"),
        (lambda n, s, m, x: n.fc2(torch.ones(2, F)), "the input of fc2 comes neither from that of the model nor"),
        (lambda n, s, m, x: nn.functional.linear(s, n.fc2.weight), "before lif2: the operation "),
        (lambda n, s, m, x: n.fc2(n.lif1(n.fc1(s))[0]), "the input of fc1 comes from elsewhere at some of its calls"),
    ],
)
def test_what_happens_between_modules(between: Any, reason: str) -> None:
    with pytest.raises(ExchangeError, match=reason):
        to_nir(Net(between), X, dt=DT)


@pytest.mark.parametrize(
    "between",
    [
        lambda n, s, m, x: n.fc2(s.detach().clone().view(-1, 1, F).squeeze(1)),
        lambda n, s, m, x: n.fc2(torch.stack([s, s])[0].float().contiguous()),
        lambda n, s, m, x: n.fc2(s + x),
        lambda n, s, m, x: n.fc2(s - 0.5 * x),
        lambda n, s, m, x: 2 * n.fc2(s / 4),
        lambda n, s, m, x: -n.fc2(-s),
        lambda n, s, m, x: n.fc2(sum([s, x])),
    ],
)
def test_what_a_graph_has_nodes_for(between: Any) -> None:
    net, x = Net(between), spikes(12)
    with torch.no_grad():
        wanted = net(x)
        assert 0 < wanted.mean() < 1
        for backend in ("snntorch", "norse", "spikingjelly"):
            assert torch.equal(from_nir(to_nir(net, X, dt=DT), backend=backend, dt=DT)(x), wanted)
