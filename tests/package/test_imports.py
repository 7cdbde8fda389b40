"""Who may import whom: the core imports no toolkit, the layers of the house look one way, adapters stay apart."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLKITS = {"snntorch", "norse", "spikingjelly"}


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


@pytest.mark.parametrize("path", [*(ROOT / "delayplug").rglob("*.py")], ids=lambda p: str(p.relative_to(ROOT)))
def test_library_imports_no_toolkit(path: Path) -> None:
    assert not {name.split(".")[0] for name, _ in imports(path)} & TOOLKITS


# Attributes that modules of one toolkit have: the core asks the `Toolkit` instead of looking for them.
OF_A_TOOLKIT = {"stateful_layers", "lifted_module", "init_hidden", "reset_mem", "step_mode"}

# Where the library may name a toolkit outside of docstrings and comments, and why: file, what it says (None: anything).
NAMED = {
    "neurons/cell.py": {  # words that delayplug 0.1 wrote into files
        "snnTorch: subtract, again while the membrane stays above",
        "snnTorch: zero in the next step, dropping its input",
    },
    "models/snn_delays.py": {"spikingjelly"},  # likewise, for the backend of what the paper's code has saved
    "bench/measure/paper.py": None,  # the network of the paper, whose authors wrote it with SpikingJelly
    "bench/measure/comparisons.py": {"DCLS + SpikingJelly"},  # what training is compared with: that network
}


def words(tree: ast.AST) -> Iterator[str]:
    """All strings but docstrings, and all names, of a piece of code."""
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield node.value
        elif isinstance(node, ast.AST):
            named = (getattr(node, field, None) for field in ("id", "attr", "arg", "name", "asname"))
            yield from (name for name in named if isinstance(name, str))


def toolkits_named(code: str) -> set[str]:
    """The strings and names in a piece of code that name a toolkit, or an attribute of one."""
    return {word for word in words(ast.parse(code)) if any(n in word.lower() for n in TOOLKITS | OF_A_TOOLKIT)}


@pytest.mark.parametrize("path", [*(ROOT / "delayplug").rglob("*.py")], ids=lambda p: str(p.relative_to(ROOT)))
def test_library_names_no_toolkit(path: Path) -> None:
    excepted = NAMED.get(path.relative_to(ROOT / "delayplug").as_posix(), set())
    named = toolkits_named(path.read_text())
    assert excepted is None or named == excepted  # no exception that nobody needs


def test_templates_name_no_toolkit() -> None:
    templates = [*(ROOT / "delayplug").rglob("*.jinja")]
    assert templates
    for path in templates:
        assert not [name for name in TOOLKITS if name in path.read_text().lower()], path.name


def test_what_names_a_toolkit_is_noticed() -> None:
    code = '''
def f(net, norse_state):
    """A docstring may say snntorch."""
    # and so may a comment: snntorch
    if backend == "SpikingJelly" or hasattr(net, f"{x} stateful_layers"):
        return net.init_hidden
'''
    assert toolkits_named(code) == {"norse_state", "SpikingJelly", " stateful_layers", "init_hidden"}


@pytest.mark.parametrize("toolkit", sorted(TOOLKITS))
def test_adapters_import_public_names_and_their_toolkit_only(toolkit: str) -> None:
    folder = ROOT / "adapters" / f"delayplug_{toolkit}"
    import delayplug

    others = {*TOOLKITS, *(f"delayplug_{other}" for other in TOOLKITS)} - {toolkit, folder.name}
    for path in folder.rglob("*.py"):
        names = {name for name, _ in imports(path)}
        assert not {name.split(".")[0] for name in names} & others
        ours = {name.removeprefix("delayplug.") for name in names if name.startswith("delayplug.")}
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
        ours |= {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == "delayplug"}
        assert ours <= set(delayplug.__all__), ours - set(delayplug.__all__)
    assert toolkit not in {name.split(".")[0] for name, top in imports(folder / "__init__.py") if top}


HEAVY = "snntorch norse spikingjelly nir onnx onnxruntime DCLS h5py matplotlib lightning typer rich numpy.testing"


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def test_importing_the_library_loads_nothing_heavy() -> None:
    assert not loaded_after("import delayplug") & {"torch", "numpy", *HEAVY.split()}
    adapters = ", ".join(f"delayplug_{toolkit}" for toolkit in sorted(TOOLKITS))
    assert not loaded_after(f"import delayplug, {adapters}") & set(HEAVY.split())


@pytest.mark.slow
def test_every_public_name_loads_what_it_needs_and_no_more() -> None:
    assert not loaded_after("from delayplug import *") & set(HEAVY.split())


def test_the_command_line_answers_without_torch() -> None:
    command = "import sys; sys.argv = ['delayplug', '--help']\ntry: delayplug.cli.main()\nexcept SystemExit: pass"
    loaded = loaded_after(f"import delayplug.cli\n{command}")
    assert not loaded & {"torch", "numpy", "lightning", "matplotlib", "h5py", *TOOLKITS}
