"""What a graph does not have is refused by name; what only looks like it is understood."""

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from delayplug import ExchangeError, to_nir
from tests.exchange.models import F, Net, X, from_nir, node, spikes

DT = 1e-3


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda n, s, m, x: n.fc2(s).relu(), "before lif2: the operation relu in the forward of the model"),
        (lambda n, s, m, x: n.fc2((-s).relu()), "before fc2: the operation relu"),
        (lambda n, s, m, x: n.fc2(x.relu()), "before fc2: the operation relu"),
        (lambda n, s, m, x: n.fc2(s[:, :1].repeat(1, F)), "before fc2: the operation repeat"),
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
        lambda n, s, m, x: n.fc2(s.relu()),
        lambda n, s, m, x: n.fc2((2 * s).relu()),
        lambda n, s, m, x: n.fc2(s.unsqueeze(0).repeat(3, 1, 1)[1]),
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


class Images(nn.Module):
    """Poolings as functions: the same one at each step is one node, and its name is free."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.avg_pool2d = nn.Conv2d(1, 2, 3), node(0.5)
        self.fc, self.lif = nn.Linear(8, 6), node(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for x_t in x:
            z = self.avg_pool2d(nn.functional.avg_pool2d(self.conv(x_t), 2))
            whole = nn.functional.adaptive_avg_pool2d(nn.functional.max_pool2d(z.relu(), 2).relu(), (2, 2))
            votes = self.lif(self.fc(whole.flatten(1)))
            out.append(nn.functional.avg_pool1d(votes.unsqueeze(1), 2).squeeze(1))
        return torch.stack(out)


def test_poolings_as_functions() -> None:
    torch.manual_seed(8)
    net, x = Images(), spikes(12, 2, (1, 18, 18))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randint(-4, 8, parameter.shape) / 8)
        functional.reset_net(net)
        wanted = net(x)
        assert 0 < wanted.mean() < 1
    graph = to_nir(net, spikes(4, 2, (1, 18, 18)), dt=DT)
    assert [name for name in graph.nodes if "pool" in name] == [
        *("avg_pool2d_2", "avg_pool2d", "max_pool2d", "max_pool2d.any", "adaptive_avg_pool2d", "avg_pool2d_3")
    ]
    for backend in ("snntorch", "norse", "spikingjelly"):
        with torch.no_grad():
            assert torch.equal(from_nir(graph, backend=backend)(x), wanted)
