"""Uses an installed delayplug as its users do. Arguments: the checkout, which it must not come from, and the extra.

Run by the environment's own Python, from an empty folder. Whatever the environment has must work, and whatever needs
another extra must name it; there is no traceback. The last line printed is JSON: seconds of an import and of the help.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import delayplug

TOOLKITS = ("snntorch", "norse", "spikingjelly")
# The package that tells whether an extra is here.
PACKAGES = {
    **{toolkit: toolkit for toolkit in TOOLKITS},
    **{"nir": "nir", "netx": "h5py", "onnx": "onnxruntime", "bench": "lightning", "dcls": "DCLS", "ray": "ray"},
    "sweep": "optuna",
}
# What `pip install 'delayplug[NAME]'` brings.
PROMISED = {
    "core": set(),
    "ray": {"ray", "bench"},
    "sweep": {"sweep", "bench"},
    "all": {*PACKAGES} - {"ray", "sweep"},
}


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def has(extra: str) -> bool:
    return installed(PACKAGES[extra])


def command(*args: str, code: int = 0) -> str:
    """What `delayplug ARGS` prints; it ends with this code and without a traceback."""
    done = subprocess.run(
        [Path(sys.executable).with_name("delayplug"), *args],
        capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"}, check=False,
    )  # fmt: skip
    printed = done.stdout + done.stderr
    assert "Traceback" not in printed, printed
    assert done.returncode == code, (args, done.returncode, printed)
    return printed


def seconds(*args: str | Path) -> float:
    """The shortest of three times."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run(args, check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    return round(min(times), 2)


def check_layers() -> None:
    for name in delayplug.__all__:
        getattr(delayplug, name)
    layer = delayplug.LearnableDelay(5, 3, max_delay=8)
    x = torch.rand(20, 2, 5, requires_grad=True)
    y = layer(x)
    assert y.shape == (20, 2, 3), y.shape
    y.square().sum().backward()
    gradients = [x.grad, *(p.grad for p in layer.parameters() if p.requires_grad)]
    assert all(g is not None and g.isfinite().all() and g.any() for g in gradients), gradients


def check_readme(readme: str) -> None:
    """The block of each toolkit that is here runs, and its network has delays."""
    blocks = dict(re.findall(r"^## (\w+)\n\n```python\n(.*?)^```$", readme, flags=re.DOTALL | re.MULTILINE))
    for toolkit in filter(has, TOOLKITS):
        (block,) = (text for title, text in blocks.items() if title.lower() == toolkit)
        path = Path(f"readme_{toolkit}.py").resolve()  # a file: the source of a model's forward is read
        path.write_text(block)
        namespace = {"torch": torch, "nn": nn, "delayplug": delayplug, "__name__": "readme"}
        exec(compile(block, str(path), "exec"), namespace)
        delays = dict(delayplug.named_delays(namespace["model"]))
        assert len(delays) == 2, list(delays)
        network = delayplug.pretrained("synthetic-learned", backend=toolkit)
        assert network.scores(torch.zeros(network.steps, 1, 20)).shape == (1, 10)


def use_dcls() -> None:
    layer = delayplug.LearnableDelay(3, 2, max_delay=4, engine="dcls")
    assert layer(torch.rand(6, 1, 3)).shape == (6, 1, 2)


def network() -> nn.Module:
    """One that can be exported, or, where there is no toolkit, one without neurons."""
    toolkit = next(filter(has, TOOLKITS), None)
    if toolkit is None:
        return nn.Linear(3, 2)
    return delayplug.freeze_delays(delayplug.pretrained("synthetic-learned", backend=toolkit)).model


def use_nir() -> None:
    delayplug.to_nir(network(), example=torch.zeros(5, 1, 20), dt=1e-3)


def use_netx() -> None:
    file = delayplug.to_netx(network(), "net.net", example=torch.zeros(5, 1, 20))
    assert file.path.is_file()


def use_onnx() -> None:
    path = delayplug.to_onnx(network(), "net.onnx", example=torch.zeros(5, 1, 20))
    import onnxruntime

    assert onnxruntime.InferenceSession(path).get_inputs()


def use_plot() -> None:
    import delayplug.plot

    delayplug.plot.histogram(delayplug.LearnableDelay(3, 2, max_delay=4)).figure.savefig("delays.png")


def use_data() -> None:
    from delayplug.data import read_recordings

    read_recordings("nothing.h5")


def use_sweep() -> None:
    from delayplug.bench.search.sampling import check_sampler

    check_sampler("tpe", {})


def use_ray() -> None:
    from delayplug.bench.comparison.launch import check_launcher
    from delayplug.bench.resources import Resources

    check_launcher("ray", Resources("cpu"), 1)


# What needs an extra; the packages that it needs, with the extra that an error names where one is not here; and the
# error that it ends with where they are: that a file is not there, or that there is no toolkit with neurons.
USES: list[tuple[Callable[[], object], dict[str, str], type[Exception] | None]] = [
    (use_dcls, {"DCLS": "dcls"}, None),
    (use_nir, {"nir": "nir"}, None if any(map(has, TOOLKITS)) else delayplug.WiringError),
    (use_netx, {"h5py": "netx"}, None if any(map(has, TOOLKITS)) else delayplug.WiringError),
    (use_onnx, {"onnx": "onnx"}, None if any(map(has, TOOLKITS)) else delayplug.WiringError),
    (use_plot, {"matplotlib": "bench"}, None),
    (use_data, {"h5py": "bench"}, delayplug.DataError),
    (use_sweep, {"optuna": "sweep"}, None),
    (use_ray, {"lightning": "bench", "ray": "ray"}, None),
    *(
        (lambda name=toolkit: delayplug.pretrained("synthetic-learned", backend=name), {toolkit: toolkit}, None)
        for toolkit in TOOLKITS
    ),
]


def check_uses() -> None:
    for use, packages, expected in USES:
        error: Exception | None = None
        try:
            use()
        except delayplug.DelayplugError as caught:
            error = caught
        missing = next((extra for package, extra in packages.items() if not installed(package)), None)
        if missing is None:
            assert type(error) is (expected or type(None)), (packages, repr(error))
        else:
            assert isinstance(error, ImportError), (packages, repr(error))
            assert str(error).endswith(f"Run: pip install 'delayplug[{missing}]'"), error


def check_commands() -> None:
    help_text = command("--help")
    assert command("-h") == help_text
    assert "--install-completion" in help_text
    assert command("--version").strip() == f"delayplug {delayplug.__version__}"
    for args in (["bench", "run", "-h"], ["data", "-h"], ["speed", "-h"], ["backends", "-h"]):
        assert "Usage" in command(*args)
    os.environ["_DELAYPLUG_COMPLETE"] = "source_bash"
    assert "complete" in command()
    del os.environ["_DELAYPLUG_COMPLETE"]

    listed = re.sub(r"[\s│]+", "", command("backends"))
    for toolkit in TOOLKITS:
        assert (f"pipinstall'delayplug[{toolkit}]'" in listed) != has(toolkit), listed
    assert listed.count("ready") == sum(map(has, TOOLKITS)), listed

    Path("x_train.h5").write_bytes(b"\x89HDF")
    Path("x_test.h5").write_bytes(b"\x89HDF")
    said = [command(*args, code=1) for args in (["bench", "report", "runs"], ["data", "info", "."])]
    assert all(text.startswith("error: ") for text in said), said
    if not has("bench"):
        said += [command("bench", "run", code=1), command("speed", code=1)]
        assert installed("matplotlib") or all("Run: pip install 'delayplug[bench]'" in text for text in said), said
        assert all("Run: pip install 'delayplug[bench]'" in text for text in said[2:]), said
        return
    if not has("dcls"):
        assert "Run: pip install 'delayplug[dcls]'" in command("speed", "--only", "layer", code=1)
    if toolkit := next(filter(has, TOOLKITS), None):
        command("bench", "run", "--epochs", "1", "--delays", "learned", "--backend", toolkit, "--out", "runs")
        assert "report.html" in command("bench", "report", "runs")
    else:
        printed = command("bench", "run", code=1)
        assert printed.startswith("error: "), printed


def main() -> None:
    checkout, name = sys.argv[1:]
    assert not Path(delayplug.__file__).is_relative_to(checkout), f"imported from the checkout: {delayplug.__file__}"
    there = {extra for extra in PACKAGES if has(extra)}
    assert there >= PROMISED.get(name, {name}), (name, there)
    assert name != "core" or not there, there  # a toolkit may bring another extra's package, as Norse does with nir
    readme = (Path(checkout) / "README.md").read_text()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        check_layers()
        check_readme(readme)
        check_uses()
        check_commands()
        os.chdir("/")
    times = {
        "import": seconds(sys.executable, "-I", "-c", "import delayplug"),
        "help": seconds(Path(sys.executable).with_name("delayplug"), "--help"),
    }
    print(json.dumps(times))


if __name__ == "__main__":
    main()
