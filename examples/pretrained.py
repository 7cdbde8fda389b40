"""A trained network: loaded, frozen to whole delays, streamed, written as NIR, read into other toolkits.

    python examples/pretrained.py
    python examples/pretrained.py --name shdr-learned --dataset data/shdr

Without --dataset the network is that of the task that delayplug generates.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import delayplug
from delayplug.bench.model.network import class_scores
from delayplug.data import find_splits, read_recordings
from delayplug.data.synthetic import TimingTask

OTHERS = ("norse", "spikingjelly")


@torch.no_grad()
def main(name: str, dataset: Path | None = None, most: int | None = None) -> None:
    network = delayplug.pretrained(name, backend="snntorch")
    if dataset is None:
        frames = TimingTask(jitter=0.3, distractors=2).sample(1000, seed=3)  # what it was tested on
    else:
        frames = network.frames(read_recordings(find_splits(dataset)["test"]))
    frames = frames.select(range(min(len(frames), most or len(frames))))
    readout, seconds = network.config.readout, network.config.step_ms * 1e-3
    silence = len(network.synapses) * network.tail  # steps behind a recording, in which late spikes arrive
    first: list[int] = []

    def report(stage: str, run: Callable[[Tensor], Tensor], steps: int = 0) -> None:
        """Print the accuracy of `run`, (T, B, C) to membranes, on recordings with steps of silence behind them."""
        answers, labels = [], []
        for start in range(0, len(frames), 256):
            x, y = frames.batch(range(start, min(start + 256, len(frames))))
            x = torch.cat([x, x.new_zeros(steps, *x.shape[1:])])
            answers += class_scores(run(x), readout).argmax(-1).tolist()
            labels += y.tolist()
        first[:] = first or answers
        right, same = (sum(map(int.__eq__, answers, others)) for others in (labels, first))
        print(f"{stage:<42} {right / len(labels):7.2%} right, {same / len(labels):7.2%} as loaded")

    report("loaded", network)
    print(delayplug.freeze_delays(network))
    report("delays frozen to whole steps", network)

    # A layer of the benchmark cuts what arrives after its last step; a stream has no last step, so silence follows.
    network.tail = 0
    report("silence in place of cut layers", network, silence)
    if network.connections:
        print("neither streamed nor written as NIR: the network is recurrent")
        return
    stream = delayplug.stream(network)

    def step_by_step(x: Tensor) -> Tensor:
        stream.reset()
        return torch.stack([stream.push(x_t) for x_t in x])

    report("streamed, one step at a time", step_by_step, silence)

    example, _ = frames.batch(range(min(2, len(frames))))
    try:
        graph = delayplug.to_nir(network, example, dt=seconds)
    except delayplug.ExchangeError as error:  # adaptive neurons
        print(f"not written as NIR: {error}")
    else:
        branches = sum(delayplug.nir_branches(graph).values())
        for backend in ("snntorch", *OTHERS):
            try:
                back = delayplug.from_nir(graph, backend=backend, dt=seconds)
            except delayplug.BackendError as error:  # not installed
                print(f"not read from NIR: {error}")
                continue
            report(f"from NIR ({branches} branches) into {backend}", back, silence)

    stream.reset()
    x, y = frames.batch([0])
    scores = torch.zeros(1, len(network.classes))
    print(f"\nA recording of {network.classes[y[0]]!r} as it comes in, and {silence} steps of silence:")
    for step, x_t in enumerate(torch.cat([x, x.new_zeros(silence, *x.shape[1:])])):
        scores += stream.push(x_t).softmax(-1)
        if step % 10 == 9:
            print(f"step {step + 1:3}: {network.classes[scores.argmax()]!r} with {scores.max() / scores.sum():.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="synthetic-learned", help="of the network, or its file")
    parser.add_argument("--dataset", type=Path, help="folder with *_test in SHD's layout")
    parser.add_argument("--recordings", type=int, help="how many, of the test file")
    options = parser.parse_args()
    main(options.name, options.dataset, options.recordings)
