"""Pictures of delays before, while and after they are learned: `python examples/gallery.py FOLDER`.

Two SpikingJelly networks learn the embedded task, whose classes differ only in when their spikes come: one with a
hidden layer, and one that only reads out, whose delays must align the pattern of each class.
"""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import delayplug
import delayplug.plot
from delayplug.data.synthetic import TimingTask

TASK = TimingTask(classes=6, jitter=0.3, distractors=1)


class Net(nn.Module):
    def __init__(self, *sizes: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            parts += [layer.Linear(inputs, outputs, bias=False), neuron.LIFNode(tau=1.2, decay_input=False)]
        self.layers = nn.Sequential(*parts)
        self.readout = parts[-1]
        self.readout.v_threshold, self.readout.store_v_seq = 1e9, True  # never spikes: its membrane is read
        functional.set_step_mode(self, "m")
        # By name, since the layer in front of a readout gets no delays by default.
        delayplug.add_delays(self, max_delay=20, filter_fn=[f"layers.{n}" for n in range(0, len(parts), 2)])

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        self.layers(x)
        return self.readout.v_seq.softmax(-1).sum(0)  # (T, B, channels) to scores (B, classes)


def train(net: nn.Module, samples: int, epochs: int, until: float, each_epoch: Callable[[], object]) -> float:
    """Train, and return the accuracy on fresh samples with delays rounded."""
    frames, test = TASK.sample(samples, seed=1), TASK.sample(samples, seed=2)
    optimizer = torch.optim.Adam(delayplug.parameter_groups(net, lr=5e-3, delay_lr=0.2))
    schedule = delayplug.SigmaSchedule(net, epochs, until=until)
    for _ in range(epochs):
        for indices in torch.randperm(samples).split(50):
            x, y = frames.batch(indices)
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        each_epoch()
    x, y = test.batch(range(samples))
    with torch.no_grad():
        return (net.eval()(x).argmax(-1) == y).double().mean().item()


def save(axes: Axes, path: Path) -> None:
    axes.figure.savefig(path, dpi=110)


def main(folder: Path, samples: int = 400) -> tuple[float, float]:
    """Train, save the pictures, and return the accuracies of the two networks."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)

    deep = Net(20, 48, 6)
    with torch.no_grad():
        deep.layers[0].weight.mul_(6)  # or it would be silent for the first epochs
    history = delayplug.DelayHistory(deep)
    deep_accuracy = train(deep, samples, 16, 0.6, history.record)
    save(delayplug.plot.histograms(deep, before=history.first)[0], folder / "histograms.png")
    figure = Figure(figsize=(8.4, 2.8), layout="constrained")
    first, second = figure.subplots(1, 2, sharey=True)
    delayplug.plot.trajectory(history, "layers.0", first).get_legend().remove()
    delayplug.plot.trajectory(history, "layers.2", second).set_ylabel("")
    save(second, folder / "trajectory.png")
    delays = deep.layers[0].delay.delays
    near_eight = int((delays[:, 0, 0] - 8).abs().argmin())
    save(delayplug.plot.kernel(deep.layers[0], (near_eight, 0), [10, 5, 2, 0.5]), folder / "kernel.png")

    flat = Net(20, 6)
    with torch.no_grad():
        flat.layers[0].weight.fill_(0.3)
    flat_accuracy = train(flat, samples, 24, 0.8, lambda: None)
    save(delayplug.plot.matrix(flat.layers[0], opacity=True), folder / "matrix.png")
    x, y = TASK.sample(60, seed=3).batch(range(60))
    wanted = 2
    recording = x[:, int((y == wanted).nonzero()[0])]
    save(delayplug.plot.realigned(recording, flat.layers[0], wanted)[0], folder / "realigned.png")
    return deep_accuracy, flat_accuracy


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    deep, flat = main(Path(sys.argv[1]))
    print(f"accuracy with a hidden layer: {deep:.1%}, with the readout alone: {flat:.1%}")
