"""Networks as the users of SpikingJelly write them, and how those users drive theirs.

Shapes: T steps, N batch, C channels, L length, H and W height and width, F features, P patches of an image.
A network in step mode "s" takes one step (N, ...), in step mode "m" a sequence (T, N, ...).
"""

from typing import Any

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.nn import functional as nnf
from torch.nn.modules.conv import _ConvNd

from delayplug.testing.laws import Network

F, HIDDEN, OUT = 5, 6, 4
LENGTH = (2, 8)
IMAGE = (2, 8, 8)
PATCHES = (4, 6)


def awake(net: nn.Module, linear: float = 6.0, conv: float = 2.0, norm: float = 2.0) -> nn.Module:
    """The network with weights that make its neurons spike, both in training and in evaluation."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear | _ConvNd):
                gain = linear if isinstance(module, nn.Linear) else conv
                module.weight.add_(0.2 * module.weight.abs().max()).mul_(gain)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.fill_(norm)
    return net


def in_mode(mode: str, net: nn.Module) -> nn.Module:
    """The network with all its modules in one step mode."""
    functional.set_step_mode(net, mode)
    return net


# ------------------------------------------------------------------------------------------- fully connected


class ClassNet(nn.Module):
    """Layers as attributes, with batch norm; runs in both step modes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = layer.Linear(F, HIDDEN)
        self.bn1 = layer.BatchNorm1d(HIDDEN)
        self.sn1 = neuron.LIFNode(tau=2.0, detach_reset=True)
        self.fc2 = layer.Linear(HIDDEN, OUT, bias=False)
        self.sn2 = neuron.ParametricLIFNode()

    def forward(self, x: Tensor) -> Tensor:
        return self.sn2(self.fc2(self.sn1(self.bn1(self.fc1(x)))))


def nested(linear: Any = nn.Linear) -> nn.Module:
    """A Sequential in a Sequential."""
    return nn.Sequential(
        linear(F, HIDDEN),
        neuron.LIFNode(tau=2.0),
        nn.Sequential(linear(HIDDEN, OUT), nn.Dropout(0.0), neuron.IFNode()),
    )


def recurrent() -> nn.Module:
    """Feedback of spikes as such, a synapse with memory, and feedback through weights."""
    return nn.Sequential(
        layer.Linear(F, HIDDEN),
        layer.ElementWiseRecurrentContainer(neuron.KLIFNode(), inhibit),
        layer.SynapseFilter(tau=2.0, learnable=True),
        layer.Linear(HIDDEN, HIDDEN),
        neuron.IFNode(detach_reset=True),
        layer.LinearRecurrentContainer(neuron.CUBALIFNode(), HIDDEN, HIDDEN),
        layer.Linear(HIDDEN, OUT),
        neuron.IFNode(),
    )


def inhibit(y: Tensor, x: Tensor) -> Tensor:
    """The input less what the neurons have just emitted."""
    return x - 0.5 * y


def non_spiking() -> nn.Module:
    """The last neuron only integrates, from zero at each call, and gives a list of membranes."""
    return nn.Sequential(
        layer.Linear(F, HIDDEN),
        neuron.LIFNode(tau=2.0),
        layer.Dropout(0.0),
        layer.Linear(HIDDEN, HIDDEN),
        neuron.EIFNode(),
        layer.Linear(HIDDEN, OUT),
        neuron.NonSpikingLIFNode(tau=2.0),
    )


class MembraneLIF(neuron.LIFNode):  # type: ignore[misc]
    """A user's neuron that shows its membrane too."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spike = super().forward(x)
        return spike, self.v


class MembraneNet(nn.Module):
    """Q-values read from a membrane that never reaches its threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, HIDDEN)
        self.sn1 = MembraneLIF(tau=2.0, v_reset=None)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.sn2 = MembraneLIF(tau=1.5)
        self.fc3 = nn.Linear(HIDDEN, OUT)
        self.readout = neuron.LIFNode(v_threshold=1e9)  # infinity is refused on a GPU

    def forward(self, x: Tensor) -> Tensor:
        spike, _ = self.sn1(self.fc1(x))
        spike, membrane = self.sn2(self.fc2(spike))
        self.last_membrane = membrane.detach()
        self.readout(self.fc3(spike))
        return self.readout.v


class Attention(nn.Module):
    """Queries, keys and values are spikes, each of its own neuron; (T, N, P, D) in step mode "m"."""

    def __init__(self, dim: int = PATCHES[1]) -> None:
        super().__init__()
        self.embed = layer.Linear(dim, dim)
        self.embed_lif = neuron.LIFNode(detach_reset=True)
        self.q_linear, self.q_lif = layer.Linear(dim, dim, bias=False), neuron.LIFNode(detach_reset=True)
        self.k_linear, self.k_lif = layer.Linear(dim, dim, bias=False), neuron.LIFNode(detach_reset=True)
        self.v_linear, self.v_lif = layer.Linear(dim, dim, bias=False), neuron.LIFNode(detach_reset=True)
        self.attn_lif = neuron.LIFNode(v_threshold=0.5, detach_reset=True)
        self.proj_linear, self.proj_lif = layer.Linear(dim, dim), neuron.LIFNode(detach_reset=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed_lif(self.embed(x))
        q = self.q_lif(self.q_linear(x))
        k = self.k_lif(self.k_linear(x))
        v = self.v_lif(self.v_linear(x))
        attended = self.attn_lif((q @ k.transpose(-2, -1)) @ v * 0.25)
        return x + self.proj_lif(self.proj_linear(attended))


# ---------------------------------------------------------------------------------------------- convolutional


def csnn() -> nn.Module:
    """The convolutional network of SpikingJelly's tutorial."""
    return nn.Sequential(
        layer.Conv2d(2, 4, kernel_size=3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        neuron.IFNode(surrogate_function=surrogate.ATan()),
        layer.MaxPool2d(2, 2),
        layer.Conv2d(4, 4, kernel_size=3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        neuron.IFNode(surrogate_function=surrogate.ATan()),
        layer.MaxPool2d(2, 2),
        layer.Flatten(),
        layer.Linear(4 * 2 * 2, HIDDEN, bias=False),
        neuron.IFNode(surrogate_function=surrogate.ATan()),
        layer.Linear(HIDDEN, OUT, bias=False),
        neuron.IFNode(surrogate_function=surrogate.ATan()),
    )


def plain() -> nn.Module:
    """Layers of PyTorch, stepped from outside, and neurons of several kinds."""
    return nn.Sequential(
        nn.Conv2d(2, 4, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        neuron.QIFNode(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 3, kernel_size=3, stride=2),
        neuron.CUBALIFNode(),
        nn.Flatten(),
        nn.Linear(3, OUT),
        neuron.ParametricLIFNode(init_tau=2.0),
    )


def folded() -> nn.Module:
    """Stateless blocks see all steps as one batch."""
    return nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)),
        neuron.IFNode(step_mode="m"),
        layer.SeqToANNContainer(nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten()),
        neuron.LIFNode(step_mode="m"),
        layer.SeqToANNContainer(nn.Linear(64, OUT)),
        neuron.LIFNode(step_mode="m"),
    )


def stepped() -> nn.Module:
    """A block stepped with its neuron, a layer stepped alone, and containers with a step mode."""
    return nn.Sequential(
        layer.MultiStepContainer(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), neuron.IFNode(), nn.AvgPool2d(2)),
        layer.Flatten(step_mode="m"),
        layer.MultiStepContainer(nn.Linear(64, HIDDEN)),
        neuron.LIFNode(step_mode="m"),
        layer.StepModeContainer(False, "m", nn.Linear(HIDDEN, HIDDEN), nn.Dropout(0.0)),
        neuron.ParametricLIFNode(step_mode="m"),
        layer.StepModeContainer(True, "m", nn.Linear(HIDDEN, OUT), neuron.IFNode()),
    )


class FoldedByHand(nn.Module):
    """Folds the steps into the batch for each layer of PyTorch; (T, N, C, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.sn1 = neuron.LIFNode(step_mode="m")
        self.conv2 = nn.Conv2d(4, 4, 3, stride=2)
        self.sn2 = neuron.LIFNode(step_mode="m")
        self.fc = nn.Linear(4, OUT)
        self.sn3 = neuron.IFNode(step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        steps, batch = x.shape[:2]
        x = self.sn1(functional.seq_to_ann_forward(x, [self.conv1, self.bn1]))
        x = nnf.max_pool2d(self.conv2(x.flatten(0, 1)), 2)
        x = self.sn2(x.unflatten(0, (steps, batch)))
        return self.sn3(self.fc(x.flatten(2)))


def depthwise() -> nn.Module:
    """Grouped, depthwise then pointwise, and transposed convolutions."""
    return nn.Sequential(
        layer.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        neuron.IFNode(),
        layer.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
        layer.Conv2d(4, 6, 1, bias=False),
        layer.BatchNorm2d(6),
        neuron.LIFNode(),
        layer.ConvTranspose2d(6, 2, 2, stride=2),
        neuron.IFNode(),
    )


def parallel() -> nn.Module:
    """Neurons without reset that see the last steps of the sequence at once."""
    return nn.Sequential(
        layer.Conv1d(2, 4, kernel_size=3, padding=1, bias=False),
        layer.BatchNorm1d(4),
        neuron.SlidingPSN(k=3),
        layer.MaxPool1d(2),
        layer.Conv1d(4, 4, kernel_size=3, padding=1),
        neuron.SlidingPSN(k=2),
        layer.Flatten(),
        layer.Linear(16, OUT),
        neuron.SlidingPSN(k=3),
    )


class GestureNet(nn.Module):
    """Blocks of convolution made by a loop, a vote at the end; takes what a loader gives, (N, T, C, H, W)."""

    def __init__(self, channels: int = 3, blocks: int = 3) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for i in range(blocks):
            stages += [
                layer.Conv2d(channels if i else 2, channels, kernel_size=3, padding=1, bias=False),
                layer.BatchNorm2d(channels),
                neuron.LIFNode(surrogate_function=surrogate.ATan(), detach_reset=True),
                layer.MaxPool2d(2, 2),
            ]
        self.conv_fc = nn.Sequential(
            *stages,
            layer.Flatten(),
            layer.Dropout(0.0),
            layer.Linear(channels, 8),
            neuron.LIFNode(surrogate_function=surrogate.ATan(), detach_reset=True),
            layer.Dropout(0.0),
            layer.Linear(8, 6),
            neuron.LIFNode(surrogate_function=surrogate.ATan(), detach_reset=True),
            layer.VotingLayer(2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_fc(x.transpose(0, 1))


# -------------------------------------------------------------------------------------------------- residual


def downsampling(channels: int, out: int) -> nn.Module:
    """A convolution of size 1 that halves the image."""
    return nn.Sequential(layer.Conv2d(channels, out, 1, stride=2, bias=False), layer.BatchNorm2d(out))


class ConvPair(nn.Module):
    """What the residual blocks share: two convolutions, each with norm and neuron, and a branch."""

    def __init__(self, channels: int = 3, out: int = 4) -> None:
        super().__init__()
        self.conv1 = layer.Conv2d(channels, out, 3, stride=2, padding=1, bias=False)
        self.bn1 = layer.BatchNorm2d(out)
        self.sn1 = neuron.IFNode(detach_reset=True)
        self.conv2 = layer.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = layer.BatchNorm2d(out)
        self.sn2 = neuron.IFNode(detach_reset=True)
        self.downsample = downsampling(channels, out)


class SpikeAddBlock(ConvPair):
    """As in SEW-ResNet: both branches end in a neuron, the spikes are added."""

    def __init__(self, channels: int = 3, out: int = 4) -> None:
        super().__init__(channels, out)
        self.downsample_sn = neuron.IFNode(detach_reset=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.sn1(self.bn1(self.conv1(x)))
        out = self.sn2(self.bn2(self.conv2(out)))
        return out + self.downsample_sn(self.downsample(x))


class CurrentAddBlock(ConvPair):
    """As in spiking ResNet: the branches are added in place before one neuron."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.sn1(self.bn1(self.conv1(x)))))
        out += self.downsample(x)
        return self.sn2(out)


class MembraneAddBlock(nn.Module):
    """As in MS-ResNet: the neuron comes before the convolution, the shortcut carries the membrane's current."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.sn1 = neuron.LIFNode(detach_reset=True)
        self.conv1 = layer.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = layer.BatchNorm2d(channels)
        self.sn2 = neuron.LIFNode(detach_reset=True)
        self.conv2 = layer.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = layer.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(self.sn1(x)))
        return x + self.bn2(self.conv2(self.sn2(out)))


class ResNet(nn.Module):
    """A stem with its own neuron, one block and a spiking classifier."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.conv1 = layer.Conv2d(2, 3, 3, stride=2, padding=1, bias=False)
        self.bn1 = layer.BatchNorm2d(3)
        self.sn1 = neuron.IFNode(detach_reset=True)
        self.layer1 = block
        self.flatten = layer.Flatten()
        self.fc = layer.Linear(16, OUT)
        self.sn2 = neuron.LIFNode()

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.sn1(self.bn1(self.conv1(x))))
        return self.sn2(self.fc(self.flatten(x)))


class MembraneResNet(nn.Module):
    """A stem without neuron, two blocks, and logits at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(layer.Conv2d(2, 3, 3, stride=2, padding=1, bias=False), layer.BatchNorm2d(3))
        self.blocks = nn.Sequential(MembraneAddBlock(), MembraneAddBlock())
        self.head_lif = neuron.LIFNode(detach_reset=True)
        self.avgpool = layer.AdaptiveAvgPool2d((1, 1))
        self.head = layer.Linear(3, OUT)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.head_lif(self.blocks(self.stem(x))))
        return self.head(x.flatten(2))


# ------------------------------------------------------------------------------------------------- the users


def start(net: nn.Module) -> None:
    """Resets the network; it keeps its own state."""
    functional.reset_net(net)


def cut(net: nn.Module, state: Any) -> None:
    """Detaches the network's own state."""
    functional.detach_net(net)


def steps(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """One step at a time, from outside."""
    return torch.stack([net(x_t) for x_t in x]), None


def whole(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The whole sequence in one call."""
    return net(x), None


def multi(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """A network in step mode "s", stepped by SpikingJelly."""
    return functional.multi_step_forward(x, net), None


def listed(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The network gives a list of steps."""
    return torch.stack(net(x)), None


def batch_first(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The network takes (N, T, ...)."""
    return net(x.transpose(0, 1)), None


FC = ("fc1", "fc2")
CSNN = ("0", "4", "9", "11")

NETWORKS: tuple[Network, ...] = (
    Network("sequential-s", lambda: awake(nested()), (F,), ("0", "2.0"), steps, start, cut),
    Network(
        "sequential-m", lambda: awake(in_mode("m", nested())), (F,), ("0", "2.0"), whole, start, cut, sees="sequences"
    ),
    Network("sequential-multi", lambda: awake(nested(layer.Linear)), (F,), ("0", "2.0"), multi, start, cut),
    Network(
        "class-m", lambda: awake(in_mode("m", ClassNet()), norm=3.0), (F,), FC, whole, start, cut, sees="sequences"
    ),
    Network("class-s", lambda: awake(ClassNet(), norm=3.0), (F,), FC, steps, start, cut),
    Network(
        "sequential-csnn-m",
        lambda: awake(in_mode("m", csnn()), 3.0, 1.5, 1.0),
        IMAGE,
        CSNN,
        whole,
        start,
        cut,
        sees="sequences",
    ),
    Network("sequential-csnn-s", lambda: awake(csnn(), 3.0, 1.5, 1.0), IMAGE, CSNN, steps, start, cut),
    Network("sequential-plain-s", lambda: awake(plain(), conv=1.5), IMAGE, ("0", "4", "7"), steps, start, cut),
    Network(
        "container-ann",
        lambda: awake(folded(), 3.0, 1.5),
        IMAGE,
        ("0.0", "2.1", "4.0"),
        whole,
        start,
        cut,
        sees="folded",
    ),
    Network(
        "container-multi-step",
        lambda: awake(stepped(), 4.0, norm=1.2),
        IMAGE,
        ("0.0", "2.0", "4.0", "6.0"),
        whole,
        start,
        cut,
        sees={"0.0": "steps", "2.0": "steps", "4.0": "folded", "6.0": "steps"},
    ),
    Network(
        "class-folded",
        lambda: awake(FoldedByHand(), norm=3.0),
        IMAGE,
        ("conv1", "conv2", "fc"),
        whole,
        start,
        cut,
        ordered=False,
        sees={"conv1": "folded", "conv2": "folded", "fc": "sequences"},
    ),
    Network(
        "sew-resnet",
        lambda: awake(in_mode("m", ResNet(SpikeAddBlock())), 3.0),
        IMAGE,
        ("conv1", "layer1.conv1", "layer1.conv2", "layer1.downsample.0", "fc"),
        whole,
        start,
        cut,
        ordered=False,
        sees="sequences",
    ),
    Network(
        "spiking-resnet",
        lambda: awake(in_mode("m", ResNet(CurrentAddBlock()))),
        IMAGE,
        ("conv1", "layer1.conv1", "layer1.conv2", "fc"),
        whole,
        start,
        cut,
        ordered=False,
        sees="sequences",
    ),
    Network(
        "ms-resnet",
        lambda: awake(in_mode("m", MembraneResNet()), 5.0, 1.5, 3.0),
        IMAGE,
        ("stem.0", "blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2"),
        whole,
        start,
        cut,
        ordered=False,
        sees="sequences",
    ),
    Network(
        "sequential-depthwise",
        lambda: awake(in_mode("m", depthwise()), 4.0, 5.0, 3.0),
        IMAGE,
        ("0", "3", "6"),
        whole,
        start,
        cut,
        sees="sequences",
    ),
    Network(
        "sequential-psn",
        lambda: awake(in_mode("m", parallel()), 3.0, 1.5, 1.5),
        LENGTH,
        ("0", "4", "7"),
        whole,
        start,
        sees="sequences",
    ),
    Network(
        "sequential-recurrent",
        lambda: awake(in_mode("m", recurrent()), 4.5),
        (F,),
        ("0", "3", "6"),
        whole,
        start,
        cut,
        ordered=False,
        sees="sequences",
    ),
    Network(
        "readout-non-spiking",
        lambda: awake(in_mode("m", non_spiking())),
        (F,),
        ("0", "3"),
        listed,
        start,
        sees="sequences",
    ),
    Network("readout-membrane", lambda: awake(MembraneNet()), (F,), FC, steps, start, cut),
    Network(
        "attention",
        lambda: awake(in_mode("m", Attention()), 9.0),
        PATCHES,
        ("embed", "q_linear", "k_linear", "v_linear", "proj_linear"),
        whole,
        start,
        cut,
        ordered=False,
        sees="sequences",
    ),
    Network(
        "gesture-batch-first",
        lambda: awake(in_mode("m", GestureNet()), 6.0, 1.5, 3.0),
        IMAGE,
        tuple(f"conv_fc.{i}" for i in (0, 4, 8, 14, 17)),
        batch_first,
        start,
        cut,
        sees="sequences",
    ),
)
