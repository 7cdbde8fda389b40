"""Delays and their arithmetic: layers whose synapses or channels have learnable delays, in plain PyTorch.

Read `linear.LearnableDelay` first, then `base.DelayLayer`, which it shares with `conv.ConvDelay`. `parameters` has what
such a layer holds, `options` what can be chosen about a kernel. Delays, widths and weights become taps in `taps`, a
pure function; an engine in `engines/` applies taps to a sequence; `state` is what a layer carries from step to step.
`autograd` is for second derivatives and `torch.func`. `frozen` has the layers whose delays are whole steps, `bounds`
clamps delays to their range, `dcls` converts to and from DCLS.

May import: errors. Knows no toolkit, no neuron and no network.
"""


def __getattr__(name: str) -> type:
    # delayplug 0.1 had a module of this name, and models that it saved whole look for the class here.
    if name == "LearnableDelay":
        from .linear import LearnableDelay

        return LearnableDelay
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
