"""Who may import whom: the core imports no toolkit, the layers of the house look one way, adapters stay apart."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLKITS = {"snntorch", "norse", "spikingjelly"}

# Each module may import what stands before it, and nothing else of the package.
ORDER = (
    "errors",
    "checks",
    "scratch",
    "caches",
    "kernels",
    "dcls",
    "transforms",
    "fourier",
    "convolution",
    "ranges",
    "events",
    "tape",
    "delays",
    "layers",
    "spatial",
    "frozen",
    "budget",
    "schedules",
    "cells",
    "compiling",
    "memory",
    "attach",
    "backend",
    "hookspecs",
    "plugins",
    "tracing",
    "network",
    "structure",
    "flow",
    "wiring",
    "surgery",
    "synapses",
    "penalties",
    "pruning",
    "restarts",
    "history",
    "describe",
    "counting",
    "freezing",
    "unrolling",
    "carrying",
    "streaming",
    "testing",
)


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(dotted name, whether at module level) of every import; relative ones as delayplug.*."""
    tree = ast.parse(path.read_text())
    top = set(ast.walk(ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])))
    package = ["delayplug", *path.relative_to(ROOT / "delayplug").parts[:-1]] if "adapters" not in path.parts else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module, node in top
            yield from ((f"{module}.{alias.name}", node in top) for alias in node.names)


def core() -> list[Path]:
    return [ROOT / "delayplug" / f"{name}.py" for name in ORDER]


def test_order_names_every_module_of_the_core() -> None:
    there = {path.stem for path in (ROOT / "delayplug").glob("*.py")} - {"__init__", "cli"}
    assert there == set(ORDER)


@pytest.mark.parametrize("path", core(), ids=lambda path: path.stem)
def test_core_imports_run_one_way(path: Path) -> None:
    allowed = {f"delayplug.{name}" for name in ORDER[: ORDER.index(path.stem)]}
    own = {name for name, _ in imports(path) if name.startswith("delayplug.")}
    modules = {".".join(name.split(".")[:2]) for name in own}
    assert modules <= allowed, modules - allowed


def test_data_imports_only_errors_of_the_core() -> None:
    for path in (ROOT / "delayplug" / "data").glob("*.py"):
        for name, _ in imports(path):
            inside = name.startswith(("delayplug.data", "delayplug.errors")) or not name.startswith("delayplug")
            assert inside or name == "delayplug", (path.name, name)


EXCHANGE = (
    "graph",
    "layers",
    "running",
    "following",
    "reading_models",
    "writing_nir",
    "reading_nir",
    "nir_files",
    "onnx_files",
)


@pytest.mark.parametrize("name", EXCHANGE)
def test_exchange_imports_the_core_and_runs_one_way(name: str) -> None:
    assert {path.stem for path in (ROOT / "delayplug" / "exchange").glob("*.py")} == {"__init__", *EXCHANGE}
    allowed = {f"delayplug.{module}" for module in ORDER} | {"delayplug.exchange", "delayplug"}
    before = {f"delayplug.exchange.{other}" for other in EXCHANGE[: EXCHANGE.index(name)]}
    found = {module for module, _ in imports(ROOT / "delayplug" / "exchange" / f"{name}.py")}
    for module in found:
        parts = module.split(".")
        if parts[:2] == ["delayplug", "exchange"] and len(parts) > 2:
            assert ".".join(parts[:3]) in before, module
        elif parts[0] == "delayplug":
            assert ".".join(parts[:2]) in allowed, module


@pytest.mark.parametrize("path", [*(ROOT / "delayplug").rglob("*.py")], ids=lambda p: str(p.relative_to(ROOT)))
def test_library_imports_no_toolkit(path: Path) -> None:
    assert not {name.split(".")[0] for name, _ in imports(path)} & TOOLKITS


@pytest.mark.parametrize("toolkit", sorted(TOOLKITS))
def test_adapters_import_public_names_and_their_toolkit_only(toolkit: str) -> None:
    folder = ROOT / "adapters" / f"delayplug_{toolkit}"
    import delayplug

    for path in folder.glob("*.py"):
        names = {name for name, _ in imports(path)}
        assert not {name.split(".")[0] for name in names} & (TOOLKITS - {toolkit})
        ours = {name.removeprefix("delayplug.") for name in names if name.startswith("delayplug.")}
        assert ours <= set(delayplug.__all__), ours - set(delayplug.__all__)
    assert toolkit not in {name.split(".")[0] for name, top in imports(folder / "__init__.py") if top}


HEAVY = "snntorch norse spikingjelly nir onnx onnxruntime DCLS h5py matplotlib lightning typer rich numpy.testing"


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def test_importing_the_library_loads_nothing_heavy() -> None:
    adapters = ", ".join(f"delayplug_{toolkit}" for toolkit in sorted(TOOLKITS))
    assert not loaded_after(f"import delayplug, {adapters}") & set(HEAVY.split())


def test_importing_the_command_line_loads_little() -> None:
    # Importing any part of delayplug imports torch; the command line must add nothing that takes as long.
    assert not loaded_after("import delayplug.cli") & {"lightning", "matplotlib", "h5py", *TOOLKITS}
