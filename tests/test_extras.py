"""Without an extra: what needs it says so by name, and everything else works."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from delayplug import ExtraMissingError
from delayplug._extras import extra, require

# Python as after `pip install delayplug`: nothing that an extra brings can be imported.
CORE = """
import json, sys
from importlib.machinery import PathFinder
MISSING = {
    *("snntorch", "norse", "spikingjelly", "nir", "onnx", "onnxruntime", "DCLS", "optuna", "ray"),
    *("h5py", "lightning", "matplotlib", "pooch", "requests"),
}
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in MISSING else super().find_spec(name, path, target)
sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""

CALLS = """
import torch, delayplug
from torch import nn
result = {}
def call(name, function):
    try:
        function()
    except delayplug.ExtraMissingError as error:
        result[name] = str(error)
call("engine", lambda: delayplug.LearnableDelay(3, 2, max_delay=4, engine="dcls"))
call("from_dcls", lambda: delayplug.LearnableDelay.from_dcls(nn.Linear(3, 2)))
call("to_dcls", lambda: delayplug.LearnableDelay(3, 2, max_delay=4).to_dcls())
call("to_nir", lambda: delayplug.to_nir(nn.Linear(3, 2), dt=1e-3))
call("from_nir", lambda: delayplug.from_nir("net.nir", backend="norse", dt=1e-3))
call("to_onnx", lambda: delayplug.to_onnx(nn.Linear(3, 2), "net.onnx"))
def plot():
    import delayplug.plot
call("plot", plot)
from delayplug.data import read_recordings
call("read_recordings", lambda: read_recordings("recordings.h5"))
from delayplug.data.download import download
call("download", lambda: download("shd", "nowhere"))
from delayplug.data.cache import cache_folder
call("cache", cache_folder)
def compare():
    import delayplug.bench.comparison.compare
call("compare", compare)
def page():
    import delayplug.bench.report.page
call("page", page)
def tpe():
    from delayplug.bench.search.sampling import check_sampler
    check_sampler("tpe", {})
call("tpe", tpe)

layer = delayplug.LearnableDelay(3, 2, max_delay=4)  # the layers themselves work
layer(torch.rand(6, 1, 3)).sum().backward()
assert layer.delays.grad is not None
delayplug.ConvDelay(nn.Conv2d(2, 3, 3), max_delay=4)
print(json.dumps(result))
"""

EXPECTED = {
    "engine": "engine='dcls' needs DCLS. Run: pip install 'delayplug[dcls]'",
    "from_dcls": "LearnableDelay.from_dcls needs DCLS. Run: pip install 'delayplug[dcls]'",
    "to_dcls": "LearnableDelay.to_dcls needs DCLS. Run: pip install 'delayplug[dcls]'",
    "to_nir": "delayplug.to_nir needs nir. Run: pip install 'delayplug[nir]'",
    "from_nir": "delayplug.from_nir needs nir. Run: pip install 'delayplug[nir]'",
    "to_onnx": "delayplug.to_onnx needs onnx. Run: pip install 'delayplug[onnx]'",
    "plot": "delayplug.plot needs matplotlib. Run: pip install 'delayplug[bench]'",
    "read_recordings": "reading recordings needs h5py. Run: pip install 'delayplug[bench]'",
    "download": "downloading needs pooch. Run: pip install 'delayplug[bench]'",
    "cache": "the cache of recordings needs pooch. Run: pip install 'delayplug[bench]'",
    "compare": "the benchmark needs lightning. Run: pip install 'delayplug[bench]'",
    "page": "the report needs matplotlib. Run: pip install 'delayplug[bench]'",
    "tpe": "sampler = 'tpe' needs optuna. Run: pip install 'delayplug[sweep]'",
}

COMMANDS = """
import contextlib, io
from delayplug.cli import main
result = {}
for line in json.loads(sys.argv[1]):
    sys.argv = ["delayplug", *line.split()]
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    result[line] = [code, printed.getvalue(), said.getvalue()]
print(json.dumps(result))
"""


def in_the_core(code: str, *args: str, cwd: Path) -> dict[str, list[str]]:
    command = [sys.executable, "-W", "ignore", "-c", CORE + code, *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    result: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.slow
def test_what_needs_an_extra_names_it(tmp_path: Path) -> None:
    assert in_the_core(CALLS, cwd=tmp_path) == EXPECTED
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_commands_work_or_name_the_extra(tmp_path: Path) -> None:
    works = ("--help", "--version", "-h", "bench run -h", "data -h", "backends")
    needs_bench = ("bench run", "bench report runs", "bench deploy runs", "bench sweep sweep.toml", "speed")
    needs_bench += ("bench publish runs name", "data download shd --root new", f"data info {tmp_path}")
    (tmp_path / "x_train.h5").write_bytes(b"\x89HDF")
    (tmp_path / "x_test.h5").write_bytes(b"\x89HDF")
    done = in_the_core(COMMANDS, json.dumps([*works, *needs_bench]), cwd=tmp_path)
    for line in works:
        code, printed, said = done[line]
        waits = [said_line for said_line in said.splitlines() if not said_line.startswith("importing the toolkits")]
        assert (code, waits) == (0, []), line
        assert printed, line
    for line in needs_bench:
        code, _, said = done[line]
        assert code == 1, line
        assert said.endswith(". Run: pip install 'delayplug[bench]'\n"), (line, said)
        assert said.count("\n") == 1, (line, said)
    assert done["backends"][1].count("not installed") >= 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x_test.h5", "x_train.h5"]


def test_a_missing_package_is_named_with_its_extra() -> None:
    expected = r"^tea needs no_such_pot\. Run: pip install 'delayplug\[kitchen\]'$"
    with pytest.raises(ExtraMissingError, match=expected), extra("kitchen", "tea"):
        importlib.import_module("no_such_pot.spout")
    with pytest.raises(ExtraMissingError, match="tea needs no_such_pot"):
        require("no_such_pot", "kitchen", "tea")


def test_what_is_there_is_no_matter() -> None:
    with extra("kitchen", "tea"):
        import json  # noqa: F401
    require("json", "kitchen", "tea")


def test_other_errors_of_an_import_stay_what_they_are() -> None:
    with pytest.raises(ImportError, match="broken") as caught, extra("kitchen", "tea"):
        raise ImportError("broken")
    assert not isinstance(caught.value, ExtraMissingError)


def test_a_module_without_a_specification_counts_as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stand_in", type(sys)("stand_in"))
    require("stand_in", "kitchen", "tea")
