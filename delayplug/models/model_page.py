"""Makes the page of documentation about a trained network (a model card), and the index of these pages."""

import hashlib
import textwrap
from collections.abc import Sequence

from ..bench.config import RunConfig
from ..bench.known_frames import KNOWN_FRAMES
from ..bench.report.intervals import wilson
from ..bench.serialise import to_command
from ..bench.task import NOTHING_CHOSEN
from ..bench.variants import WITH_RECURRENT_DELAYS, variant_name
from ..data.known_data import KNOWN_DATA
from .card import Card

_PROTOCOLS = {
    "heldout": "the epoch called best was chosen by held-out training recordings; the test set was read once",
    "official": "the epoch called best was chosen by the data's validation file; the test set was read once",
    "paper": 'trained on all training recordings. The last epoch involves no choice; "best on test" was chosen by '
    "the test set itself, and is too high",
    "speakers": "tested on the recordings of training speakers that were held out; the test set was not read",
    "validation": "tested on the validation file; the test set was not read",
    "refit": "a network was judged by recordings held out of training; this one was then trained from the same seed on "
    "all training recordings. No epoch was chosen; the test set was read once",
}
_TESTED_ON = {"speakers": "recordings of held-out speakers", "validation": "validation recordings"}


def model_page(card: Card, content: bytes, *, shipped: bool = True) -> str:
    """The page of a network, as Markdown.

    Args:
        card: the description in its file.
        content: the bytes of its file.
        shipped: whether the network comes with delayplug, so that its name is enough to load it.
    """
    config, data = RunConfig(**card["config"]), card["data"]
    texts = {known.name: known.describe() for known in KNOWN_DATA} | {known.name: known.about for known in KNOWN_FRAMES}
    about = texts.get(data["name"], f"The folder `{data['name']}`, whose checksums are not those of a known data set.")
    hidden = " - ".join(map(str, (data["channels"], *config.hidden, len(data["classes"]))))
    steps = "steps" if config.dataset == "synthetic" else f"steps of {config.step_ms:g} ms"
    binning = "" if config.dataset == "synthetic" else f", {config.pool} channels summed, binning {config.binning}"
    checksums = "\n".join(f"| `{name}` | `{checksum}` |" for name, checksum in data["checksums"].items())
    variant = variant_name(config.delays, config.fan_in, config.recurrent)
    neurons = "" if config.neuron == "lif" else f", {config.neuron} neurons"
    tested_on = _TESTED_ON.get(config.protocol, "test recordings")
    protocol = f"{config.protocol}, refit" if config.refit else config.protocol
    explained = _PROTOCOLS["refit" if config.refit else config.protocol]
    judged = f"Protocol `{protocol}`: {explained}. The network in the file is that after the last epoch."
    device = card["device"] or "a device that its record does not name"
    made = f"Made on {device}, {card['finished'][:10]}, with {_versions(card)}."
    validated = (
        f"{data['valid']:,} of them held out in the training before the refit"
        if config.refit
        else ("none of them for validation" if config.protocol in _TESTED_ON else f"{data['valid']:,} for validation")
    )
    return f"""# {card["name"]}

The benchmark's network ({hidden}, {variant} delays{_longest(config)}{neurons}) trained on
{data["name"]}. {card["parameters"]:,} parameters, {len(content) / 1000:,.0f} kB.

```python
import torch

import delayplug

# pass backend="NAME" for the neurons of another toolkit
network = delayplug.pretrained({_loaded_by(card["name"], shipped)}
x = torch.zeros(network.steps, 1, {data["channels"]})  # (T, B, C), events per step
print(network.classes[network.scores(x).argmax(-1)])
```

`network.frames(delayplug.data.read_recordings(path))` bins recordings in SHD's layout into inputs of this network. Its
stored delays are not rounded, so that it can be trained further: in `eval()` they are rounded, and
`delayplug.freeze_delays(network)` makes them integers. `examples/pretrained.py` freezes, streams and exports it.

## Data

{textwrap.fill(about, 120)}

{data["train"]:,} recordings were trained on, {validated}, {data["test"]:,} for the test (split:
{data["split"].removeprefix(NOTHING_CHOSEN)}). Frames: {data["steps"]} {steps}{binning}.
{len(data["classes"])} classes: {", ".join(data["classes"])}.

| file | SHA-256 of its frames |
|---|---|
{checksums}

## Accuracy

{textwrap.fill(judged, 120)}

| | % of {data["test"]:,} {tested_on} | 95 % interval (Wilson) |
|---|---|---|
{chr(10).join(_accuracies(card))}

Mean number of spikes of a neuron in a recording, by hidden layer: {_numbers(card["spikes_per_neuron"])}.

## How it was made

```console
$ {_wrapped(to_command(config))}
```

{textwrap.fill(made, 120)}
SHA-256 of the file `{card["name"]}.safetensors`:

```text
{hashlib.sha256(content).hexdigest()}
```

Weights and delays are stored in half precision. Each stored delay rounds to the same whole step as the trained one.

## Limits

- It is the result of one training with one seed. The accuracy of another seed differs by about as much as the interval
  says.
- It answers with one of its {len(data["classes"])} classes for every input; no class stands for other sounds or noise.
- Its recordings have {data["steps"]} steps: the readout sums over all of them, including silence after a recording.
- Results on {data["name"]} cannot be compared with results on other data sets, even if their names are similar.
"""


def _loaded_by(name: str, shipped: bool) -> str:
    return f'"{name}")' if shipped else f'"{name}.safetensors")  # the path of its file'


def index_page(cards: Sequence[Card], *, shipped: bool = True) -> str:
    """The index of all pages, as Markdown; `shipped`: whether these networks come with delayplug."""
    rows = [
        f"| [{card['name']}]({card['name']}.md) | {card['data']['name']} | {card['config']['delays']} | "
        f"{card['parameters']:,} | {100 * card['accuracy']['last epoch']:.1f} | {card['config']['protocol']} |"
        for card in sorted(cards, key=lambda card: card["name"])
    ]
    names = "\n".join(sorted(card["name"] for card in cards))
    loaded = (
        "`delayplug.pretrained(name, backend=...)` loads one of these into any installed toolkit; "
        "`delayplug.pretrained_names()`\nlists them."
        if shipped
        else "`delayplug.pretrained(path, backend=...)` loads one of these, by the path of its file, into any toolkit."
    )
    return f"""# Trained networks

{loaded} `delayplug bench publish RUN NAME` makes such a file, and these pages, from a finished run.

| name | data | delays | parameters | test accuracy %, last epoch | protocol |
|---|---|---|---|---|---|
{chr(10).join(rows)}

```{{toctree}}
:hidden:

{names}
```
"""


def _accuracies(card: Card) -> list[str]:
    parts = dict(card["accuracy"])
    if "stored_accuracy" in card:
        parts["this file, whole delays"] = card["stored_accuracy"]
    rows = []
    for rule, value in parts.items():
        low, high = wilson(value, card["data"]["test"])
        rows.append(f"| {rule} | {100 * value:.2f} | {100 * low:.1f} - {100 * high:.1f} |")
    if "stored_accuracy" not in card:
        rows.append("| this file, whole delays | not measured | |")
    return rows


def _longest(config: RunConfig) -> str:
    has_delays = config.delays != "none" or config.recurrent in WITH_RECURRENT_DELAYS
    return "" if not has_delays else f" of up to {config.max_delay} steps"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values) or "there is none"


def _versions(card: Card) -> str:
    return ", ".join(f"{name} {version}" for name, version in card["versions"].items())


def _wrapped(command: str, width: int = 110) -> str:
    """A long command over several lines."""
    lines = [""]
    for word in command.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)
