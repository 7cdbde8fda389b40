"""Files and graphs that are wrong: an error that names what is wrong, and nothing else."""

import contextlib
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from delayplug import ArgumentError, DelayplugError, ExchangeError, UnknownBackendError, to_nir
from tests.exchange.models import delayed, from_nir, make
from tests.exchange.nir.test_files import graph, lif, ones
from tests.profiles import examples

EDGES = [("input", "fc"), ("fc", "lif")]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("nir") / "net.nir"
    nir.write(path, to_nir(delayed(make("snntorch")), dt=1e-3))
    return path


def read(found: Any, dt: float = 1e-3) -> Any:
    return from_nir(found, backend="snntorch", dt=dt)


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 0.999))
def test_a_truncated_file(file: Path, tmp_path: Path, part: float) -> None:
    content = file.read_bytes()
    cut = tmp_path / "cut.nir"
    cut.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ExchangeError, match=r"cut\.nir: expected a NIR graph"):
        read(cut)


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 0.999), value=st.integers(0, 255), length=st.integers(1, 64))
def test_a_corrupt_file_is_read_or_refused(file: Path, tmp_path: Path, at: float, value: int, length: int) -> None:
    content = bytearray(file.read_bytes())
    start = int(at * len(content))
    content[start : start + length] = bytes([value]) * len(content[start : start + length])
    broken = tmp_path / "broken.nir"
    broken.write_bytes(content)
    with contextlib.suppress(DelayplugError):  # and nothing else
        read(broken)


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "text.nir").write_text("this is no HDF5")
    with h5py.File(tmp_path / "other.nir", "w") as f:
        f["something"] = 1
    with h5py.File(tmp_path / "strange.nir", "w") as f:
        f["node/type"] = "Teapot"
    with h5py.File(tmp_path / "lone.nir", "w") as f:
        f["node/type"], f["node/weight"] = "Linear", np.ones((2, 2))
    for name in ("text", "other", "strange"):
        with pytest.raises(ExchangeError, match=f"{name}.nir: expected a NIR graph"):
            read(tmp_path / f"{name}.nir")
    with pytest.raises(ExchangeError, match=r"lone\.nir: expected a NIR graph"):
        read(tmp_path / "lone.nir")
    with pytest.raises(ExchangeError, match="no such file"):
        read(tmp_path / "missing.nir")
    with pytest.raises(ExchangeError, match="got dict"):
        read({})


@pytest.mark.parametrize(
    ("delay", "reason"),
    [
        ([0.001, -0.001], "0 or more, got -0.001"),
        ([0.001, float("nan")], "finite"),
        ([float("inf"), 0.0], "finite"),
        ([1e9, 0.0], "seconds; is dt"),
        ([0.0015, 0.001], r"1\.5000 steps of dt = 0\.001 s, not a whole"),
        ([0.001], "1 delays, and is fed with shape"),
        ([[0.001, 0.002], [0.0, 0.0]], "different delays within one channel"),
        (["a", "b"], "expected numbers"),
    ],
)
def test_delays(delay: Any, reason: str) -> None:
    nodes = {"d": nir.Delay(np.array(delay)), "fc": nir.Linear(ones(1.0, 1.0))}
    with pytest.raises(ExchangeError, match=f"^d.*{reason}"):
        read(graph(nodes, [("input", "d"), ("d", "fc"), ("fc", "lif")]))


def test_delays_through_float32_are_whole() -> None:
    steps = np.arange(2) + 12345
    nodes = {"d": nir.Delay((steps * 1e-4).astype(np.float32)), "fc": nir.Linear(ones(1.0, 1.0))}
    nodes["lif"] = lif(1, tau=2e-4)
    net = read(graph(nodes, [("input", "d"), ("d", "fc"), ("fc", "lif")]), dt=1e-4)
    assert net.get_submodule("parts.d").delays.tolist() == steps.tolist()


@pytest.mark.parametrize(
    ("nodes", "edges", "reason"),
    [
        ({}, [*EDGES, ("fc", "nowhere")], "fc -> nowhere is dangling: there is no node nowhere"),
        ({}, [*EDGES, ("fc", "lif")], "fc -> lif is there twice"),
        ({}, [("input", "fc")], "lif is dangling: nothing feeds it"),
        ({"more": nir.Linear(ones(1.0, 1.0))}, [*EDGES, ("input", "more")], "more is dangling: it feeds nothing"),
        ({"more": nir.Linear(ones(1.0, 1.0))}, [*EDGES, ("more", "lif")], "more is dangling: nothing feeds it"),
        ({"rec": nir.Linear(ones(1.0))}, [*EDGES, ("lif", "rec"), ("rec", "lif")], "cycle.*lif.*recurrent"),
        ({"two": nir.Input(np.array([2]))}, EDGES, "one input in the graph, got input, two"),
        ({"input": None}, EDGES, "input .NoneType.*not supported"),
        ({"fc": None}, EDGES, "fc .NoneType.*not supported"),
        ({"fc": nir.Linear(ones(1.0, 1.0, 1.0))}, EDGES, r"fc has weights for 3 inputs, and is fed with shape \(2,\)"),
        ({"fc": nir.Linear(np.ones((2, 1, 2)))}, EDGES, "fc.*expected a matrix"),
        ({"fc": nir.Linear(ones(np.nan, 1.0))}, EDGES, "fc.*weight: expected finite"),
        ({"fc": nir.Affine(ones(1.0, 1.0), np.zeros(3))}, EDGES, r"fc: expected a bias of shape \(1,\)"),
        ({"lif": lif(3, tau=np.array([2e-3, 3e-3, 4e-3]))}, EDGES, "lif: expected a leak of shape"),
        ({"lif": lif(1, tau=0.0)}, EDGES, "tau: expected a time constant above zero"),
        ({"lif": lif(1, tau=-1.0)}, EDGES, "tau: expected a time constant above zero"),
        ({"lif": lif(1, tau=1e-4)}, EDGES, "shorter than dt.*smaller dt"),
        ({"lif": lif(1, v_threshold=np.inf)}, EDGES, "v_threshold: expected finite"),
        ({"lif": lif(1, v_leak=0.5)}, EDGES, "lif: snnTorch's Leaky needs a rest of zero"),
        ({"input": nir.Input(np.array([0]))}, EDGES, r"input.*a shape of \(0,\)"),
        ({"input": nir.Input(np.array([1 << 40]))}, EDGES, "input.*a shape of"),
    ],
)
def test_graphs(nodes: dict[str, Any], edges: list[tuple[str, str]], reason: str) -> None:
    with pytest.raises(ExchangeError, match=reason):
        read(graph({"fc": nir.Linear(ones(1.0, 1.0)), **nodes}, edges))


def test_graphs_without_ends() -> None:
    nodes = {"fc": nir.Linear(ones(1.0, 1.0)), "lif": lif(1)}
    with pytest.raises(ExchangeError, match="one input in the graph, got none"):
        read(nir.NIRGraph(nodes, [("fc", "lif")], type_check=False))
    with pytest.raises(ExchangeError, match="one output in the graph, got none"):
        read(nir.NIRGraph({"in": nir.Input(np.array([2])), **nodes}, [("in", "fc"), ("fc", "lif")], type_check=False))


def test_convolutions_and_pools() -> None:
    conv = {"weight": np.ones((1, 2, 3, 3)), "bias": np.zeros(1), "stride": 1, "dilation": 1, "groups": 1, "padding": 0}
    image = {"input": nir.Input(np.array([2, 4, 4]))}
    for change, reason in [
        ({"stride": (0, 1)}, "stride: expected 2 whole numbers >= 1"),
        ({"padding": (-1, 0)}, "padding: expected 2 whole numbers >= 0"),
        ({"weight": np.ones((1, 2, 9, 9))}, "kernel .9, 9. is larger"),
        ({"weight": np.ones((1, 3, 3, 3))}, "takes 3 channels"),
        ({"weight": np.ones((1, 2, 3))}, "expected 4 dimensions"),
        ({"weight": np.ones((1, 2, 2, 2)), "padding": "same"}, "padding 'same'"),
    ]:
        node = nir.Conv2d(input_shape=None, **{**conv, **change})
        with pytest.raises(ExchangeError, match=reason):
            read(graph({**image, "conv": node}, [("input", "conv"), ("conv", "lif")]))
    pool = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    with pytest.raises(ExchangeError, match="pool pools over two dimensions"):
        read(graph({"pool": pool}, [("input", "pool"), ("pool", "lif")]))
    flat = nir.Flatten({"input": np.array([2, 4, 4])}, 1, 2)
    with pytest.raises(ExchangeError, match="only the flattening of all"):
        read(graph({**image, "flat": flat}, [("input", "flat"), ("flat", "lif")]))


def test_arguments(file: Path) -> None:
    for dt in (0, -1.0, float("nan"), float("inf"), True, "1e-3"):
        with pytest.raises(ArgumentError, match="dt: expected the seconds of a step"):
            from_nir(file, backend="snntorch", dt=dt)  # type: ignore[arg-type]
    with pytest.raises(UnknownBackendError):
        from_nir(file, backend="brian", dt=1e-3)
    net = read(file)
    for x in (torch.zeros(3, 2, 7), torch.zeros(5), torch.zeros(0, 2, 5)):
        with pytest.raises(ArgumentError, match=r"x: expected a sequence \(T, B, 5\)"):
            net(x)
    graph = nir.read(file)
    graph.metadata.clear()  # which has the dt
    with pytest.raises(ExchangeError, match="not a whole"):
        from_nir(graph, backend="snntorch", dt=0.7e-3)


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (
            {"fc": nir.Linear(np.array([[1e39, 1.0]]))},
            r"fc \(Linear\): weight: expected numbers that float32 has, got 1e\+39",
        ),
        (
            {"fc": nir.Affine(ones(1.0, 1.0), np.array([-1e300]))},
            r"fc \(Affine\): bias: expected numbers that float32 has",
        ),
        ({"lif": lif(1, v_threshold=1e39)}, "lif.*v_threshold: expected numbers that float32 has"),
        ({"lif": lif(1, r=1e39)}, "lif.*r: expected numbers that float32 has"),
        (
            {"lif": nir.IF(np.array([1e30]), np.array([1.0])), "scale": nir.Scale(np.array([1e20]))},
            "lif.gain: its factor is beyond",
        ),
        (
            {
                "fc": nir.Affine(ones(1.0, 1.0), np.array([3e38])),
                "late": nir.Delay(np.array([1e-3, 1e-3])),
                "more": nir.Affine(ones(1.0, 1.0), np.array([3e38])),
            },
            "fc: its bias is beyond",
        ),
    ],
)
def test_numbers_beyond_float32_are_refused(nodes: dict[str, Any], reason: str) -> None:
    edges = [*EDGES]
    if "scale" in nodes:
        edges = [("input", "fc"), ("fc", "scale"), ("scale", "lif")]
    if "late" in nodes:
        edges += [("input", "late"), ("late", "more"), ("more", "lif")]
    with pytest.raises(ExchangeError, match=reason):
        read(graph({"fc": nir.Linear(ones(1.0, 1.0)), **nodes}, edges))
