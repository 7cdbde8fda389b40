"""The paper's network in JAX, by the package sparx (`pip install sparxml`): a training step to measure against.

Shapes: T steps, B batch, C channels.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import ArgumentError


def training_step(
    sizes: Sequence[int], x: NDArray[np.float32], *, max_delay: int = 24, tau: float = 1.005, dropout: float = 0.4
) -> Callable[[], object]:
    """A compiled training step of the network with delays on all synapses, in float32 or, unless torch's setting is
    "highest", in whatever JAX takes by default; waits until it is done.

    Args:
        sizes: channels, hidden sizes, classes.
        x: input (T, B, C).
        max_delay: D, in steps; each layer lengthens the sequence by half of it.
        tau: of all neurons, in steps.
        dropout: of hidden spikes, one mask per recording.

    Raises:
        ArgumentError: sparx is not installed.
    """
    # JAX takes three quarters of a GPU's memory at once unless told otherwise, before it is imported.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        import jax
        import jax.numpy as jnp
        import optax
        from sparx.losses import softmax_sum_cross_entropy
        from sparx.models import SpikingMLP
        from sparx.nn import LIF
        from sparx.surrogate import ATan
    except ImportError as error:
        advice = f"Run, with Python 3.12 or newer: pip install 'sparxml[cuda13]' ({error})"
        raise ArgumentError("against", "a package that is installed", "'sparx'", advice) from error

    _, *hidden, classes = sizes
    model = SpikingMLP(
        hidden=tuple(hidden),
        classes=classes,
        neuron=LIF(tau=tau, reset="zero", surrogate=ATan(alpha=5.0), detach_reset=True),
        delays=(max_delay,) * (len(sizes) - 1),
        extend=True,
        batch_norm=True,
        use_bias=False,
        weight_init="kaiming_uniform",
        dropout=dropout,
        dropout_mask="sequence",
        readout_tau=tau,
        precision="highest" if torch.get_float32_matmul_precision() == "highest" else None,
    )
    inputs, labels = jnp.asarray(x), jnp.arange(x.shape[1]) % classes
    variables = dict(model.init(jax.random.key(0), inputs[:, :2], train=False, sigma=1.0))
    parameters, rest = variables.pop("params"), variables
    optimizer = optax.adam(1e-3)

    def step(parameters: Any, statistics: Any, state: Any, key: Any) -> Any:
        def loss(values: Any) -> Any:
            outputs, changed = model.apply(
                {"params": values, **statistics},
                inputs,
                train=True,
                sigma=max_delay / 2,
                rngs={"dropout": key},
                mutable=list(statistics),
            )
            return softmax_sum_cross_entropy(outputs, labels).mean(), changed

        (_, changed), gradients = jax.value_and_grad(loss, has_aux=True)(parameters)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(parameters, updates), dict(changed), state

    compiled = jax.jit(step)
    carried: list[Any] = [parameters, {"batch_stats": rest["batch_stats"]}, optimizer.init(parameters)]
    keys = [jax.random.key(0)]

    def run() -> None:
        keys[0], key = jax.random.split(keys[0])
        carried[:] = jax.block_until_ready(compiled(*carried, key))

    return run
