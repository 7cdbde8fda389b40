"""Steps of training as CUDA graphs; on a CPU by operators that are recorded and executed again."""

import copy
from collections.abc import Callable

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from delayplug import CapturedStep, LearnableDelay, SigmaSchedule, add_delays, unroll
from tests.replay import Recorder, capturing

cuda = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return capturing(monkeypatch)


class Training:
    """A small network with everything that a step may change, and its training."""

    def __init__(self, device: str = "cpu") -> None:
        torch.manual_seed(0)
        self.first = LearnableDelay(5, 6, max_delay=4)
        self.norm = nn.BatchNorm1d(6)
        self.network = nn.ModuleList([self.first, self.norm, LearnableDelay(6, 3, max_delay=4)]).to(device)
        self.hits = torch.zeros((), dtype=torch.int64, device=device)
        self.sigma = SigmaSchedule(self.network, 4, until=1.0)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.05)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, max_lr=0.5, total_steps=12)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        hidden = self.norm(hidden.flatten(0, 1)).view_as(hidden).relu()
        scores: Tensor = self.network[2](hidden).sum(0)
        return scores

    def step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.forward(x)
        loss = nn.functional.cross_entropy(scores, y)
        loss.backward()
        self.hits += (scores.argmax(1) == y).sum()
        return loss.detach(), scores.detach()


def batches(device: str = "cpu") -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    sizes = (8, 8, 5, 8)
    return [
        (
            (torch.rand(7, n, 5, generator=generator) < 0.4).float().to(device),
            torch.randint(3, (n,), generator=generator).to(device),
        )
        for n in sizes
    ]


def trained(
    training: Training, step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], device: str = "cpu"
) -> list[Tensor]:
    """The results of all steps, then all that the training has changed."""
    results = []
    for _ in range(3):
        for x, y in batches(device):
            results += [each.clone() for each in step(x, y)]
            training.optimizer.step()
            training.schedule.step()
        training.sigma.step()
    return [*results, *training.network.state_dict().values(), training.hits]


def test_the_numbers_are_those_of_the_function(recorder: Recorder) -> None:
    """With sigma, learning rates and betas that change, batch norm, counters, and batches of two sizes."""
    plain, graphed = Training(), Training()
    step = CapturedStep(graphed.step, graphed.network, state=[graphed.hits])
    found = trained(graphed, step)
    assert (len(recorder.recordings), recorder.replays) == (2, 12)
    assert step.captured
    assert step.reason == ""

    def run_plain(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        plain.optimizer.zero_grad()
        return plain.step(x, y)

    expected = trained(plain, run_plain)
    assert all(map(torch.equal, found, expected))
    assert int(plain.hits) > 0
    assert bool((graphed.first.delays >= 0).all() & (graphed.first.delays <= 4).all())


@pytest.mark.parametrize("device", [cuda])
def test_on_a_gpu(device: str) -> None:
    plain, graphed = Training(device), Training(device)
    step = CapturedStep(graphed.step, graphed.network, state=[graphed.hits])
    found = trained(graphed, step, device)
    assert step.captured
    off = CapturedStep(plain.step, plain.network)
    off.reason = "to compare with"
    for ours, theirs in zip(found, trained(plain, off, device), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", [cuda])
def test_on_a_gpu_random_numbers_are_drawn_after_a_recording_failed(device: str) -> None:
    training = Training(device)

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss, _ = training.step(nn.functional.dropout(x), y)
        return loss * (2 if loss > 1e9 else 1)

    captured_step = CapturedStep(step, training.network)
    with pytest.warns(UserWarning, match="no CUDA graph"):
        captured_step(*batches(device)[0])
    captured_step(*batches(device)[0])
    assert torch.rand(3, device=device).device.type == "cuda"


def test_the_first_runs_leave_no_trace(recorder: Recorder) -> None:
    """Neither in parameters and buffers, nor in other state, nor in what random numbers come next."""
    training = Training()
    before, random = copy.deepcopy(training.network.state_dict()), torch.get_rng_state()
    seen: list[int] = []

    def step(x: Tensor, y: Tensor) -> None:
        seen.append(1)
        training.step(x * (torch.rand(x.shape) < 2), y)

    captured_step = CapturedStep(step, training.network, state=[training.hits])
    x, y = batches()[0]
    recorder.record = lambda run: (run(), lambda: None)  # nothing at all is replayed
    captured_step(x, y)
    assert len(seen) == 4
    after = training.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert int(training.hits) == 0
    assert torch.equal(random, torch.get_rng_state())


def test_gradients_are_those_of_the_last_call(recorder: Recorder) -> None:
    training = Training()
    step = CapturedStep(training.step, training.network)
    (x, y), (_, _), (small, labels), _ = batches()
    step(x, y)
    first = training.first.delays.grad.clone()
    step(small, labels)
    second = training.first.delays.grad.clone()
    assert not torch.equal(first, second)
    training.optimizer.zero_grad()
    training.norm.eval(), training.norm.train()
    step(x, y)
    assert torch.equal(training.first.delays.grad, first)
    step.clear()
    assert training.first.delays.grad is None
    assert not step.captured
    step(small, labels)
    assert torch.equal(training.first.delays.grad, second)


def test_each_mode_has_its_recording(recorder: Recorder) -> None:
    training = Training()
    judge = CapturedStep(lambda x: training.forward(x).argmax(1), training.network)
    x, _ = batches()[0]
    for _ in range(2):
        for mode in (True, False):
            training.network.train(mode)
            with torch.no_grad():
                found, expected = judge(x), training.forward(x).argmax(1)
            assert torch.equal(found, expected)
    assert len(recorder.recordings) == 2
    with torch.no_grad():
        training.first.weight.mul_(-1)
        assert torch.equal(judge(x), training.forward(x).argmax(1))


def test_what_cannot_be_recorded_runs_as_it_is(recorder: Recorder) -> None:
    training, plain = Training(), Training()

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss, _ = training.step(x, y)
        return loss * (2 if loss > 1e9 else 1)  # it looks at the loss

    captured_step = CapturedStep(step, training.network, state=[training.hits])
    x, y = batches()[0]
    with pytest.warns(UserWarning, match="no CUDA graph .*not permitted when stream is capturing.* It runs as it is"):
        loss = captured_step(x, y)
    assert "not permitted" in captured_step.reason
    assert not captured_step.captured
    expected, _ = plain.step(x, y)
    assert torch.equal(loss, expected)
    assert torch.equal(training.hits, plain.hits)
    assert all(map(torch.equal, training.network.state_dict().values(), plain.network.state_dict().values()))
    captured_step(x, y)
    assert recorder.replays == 0


def test_shapes_beyond_the_most_are_not_recorded(recorder: Recorder) -> None:
    graphed, plain = Training(), Training()
    step = CapturedStep(graphed.step, graphed.network, state=[graphed.hits], most=1)
    off = CapturedStep(plain.step, plain.network)
    off.reason = "to compare with"
    assert all(map(torch.equal, trained(graphed, step), trained(plain, off)))
    assert (len(recorder.recordings), recorder.replays) == (1, 9)


def test_errors_of_the_step_itself_are_raised(recorder: Recorder) -> None:
    training = Training()
    step = CapturedStep(training.step, training.network)
    with pytest.raises(ValueError, match="batch_size"):
        step(torch.zeros(7, 8, 5), torch.zeros(3, dtype=torch.int64))
    assert step.reason == ""


def test_on_a_cpu_it_just_calls() -> None:
    training, plain = Training(), Training()
    step = CapturedStep(training.step, training.network)
    x, y = batches()[0]
    for _ in range(2):
        found = step(x, y)
        plain.network.zero_grad()
        assert all(map(torch.equal, found, plain.step(x, y)))
    assert torch.equal(training.first.delays.grad, plain.first.delays.grad)
    assert not step.captured


def test_under_autocast_weights_are_cast_in_every_replay(recorder: Recorder) -> None:
    """Autocast remembers the weights that it has cast: a recording must not read those of its first run."""
    networks = [nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    x, results = torch.rand(6, 5), []

    for network, plain in zip(networks, (False, True), strict=True):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.5)

        def step(x: Tensor, network: nn.Module = network) -> Tensor:
            loss: Tensor = network(x).float().square().sum()
            loss.backward()
            return loss.detach()

        run = CapturedStep(step, network)
        if plain:
            run.reason = "to compare with"
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16):
                results.append(run(x).clone())
            optimizer.step()
    assert recorder.replays == 3
    assert results[:3] == results[3:]
    assert results[0] != results[1]


def toolkit_network(name: str) -> nn.Module:
    first, second = nn.Linear(20, 16), nn.Linear(16, 6)
    for layer in (first, second):
        nn.init.uniform_(layer.weight, -1, 3)  # so that neurons fire
    if name == "snntorch":
        cells = [snntorch.Leaky(beta=0.9, init_hidden=True) for _ in range(2)]
        return nn.Sequential(first, cells[0], second, cells[1])
    if name == "norse":
        return norse.SequentialState(first, norse.LIFBoxCell(), second, norse.LIFBoxCell())
    mode = "m" if name == "spikingjelly, sequences" else "s"
    return nn.Sequential(first, neuron.LIFNode(step_mode=mode), second, neuron.LIFNode(step_mode=mode))


@pytest.mark.parametrize("name", ["snntorch", "norse", "spikingjelly, steps", "spikingjelly, sequences"])
def test_networks_of_toolkits(name: str, recorder: Recorder) -> None:
    """Loss and gradients of every call are those of the function, though the network and its input change."""
    torch.manual_seed(0)
    model = toolkit_network(name)
    add_delays(model, max_delay=6)

    def step(x: Tensor, labels: Tensor) -> Tensor:
        if name == "spikingjelly, sequences":
            functional.reset_net(model)
            spikes = model(x)
        else:
            spikes = unroll(model, x)
        loss = nn.functional.cross_entropy(spikes.sum(0), labels)
        loss.backward()
        return loss.detach()

    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    captured_step = CapturedStep(step, model)
    losses = set()
    for _ in range(3):
        x, labels = torch.rand(30, 8, 20).round(), torch.randint(6, (8,))
        loss = captured_step(x, labels).clone()
        gradients = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        torch.testing.assert_close(step(x, labels), loss)
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
        optimizer.step()
        losses.add(float(loss))
    assert recorder.replays == len(losses) == 3
