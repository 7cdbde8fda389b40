"""The laws of the house: which room may import from which, and how files in them are named."""

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "delayplug"

# The street, from its top down. A room may import from rooms further down; rooms on one line do not know each other.
STREET = (
    {"__main__"},
    {"cli"},
    {"models"},
    {"bench", "plot", "testing"},
    {"learning", "deploy", "exchange"},
    {"running"},
    {"surgery"},
    {"toolkits"},
    {"neurons"},
    {"layers", "data"},
    {"_extras", "_files", "_tables", "_colours", "_moved", "_triton"},
    {"errors"},
)
ROOMS = {room: level for level, rooms in enumerate(STREET) for room in rooms}


def sources() -> list[Path]:
    return sorted(HOUSE.rglob("*.py"))


def module_of(path: Path) -> str:
    """The dotted name of a file, such as "delayplug.layers.base"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sources()}


def public() -> dict[str, str]:
    """The module that defines each public name."""
    tree = ast.parse((HOUSE / "__init__.pyi").read_text())
    froms = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"delayplug.{node.module}" for node in froms for alias in node.names}


PUBLIC = public()


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """A file's syntax. Python 3.11 can take the recursion of another thread for its own, and fails; not twice."""
    try:
        return ast.parse(path.read_text())
    except SystemError:
        return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[str]:
    """The modules of delayplug that a file imports, at its top or inside of functions; by name, too."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                if module == "delayplug" and alias.name in PUBLIC:
                    yield PUBLIC[alias.name]
                elif inner in MODULES or module in MODULES:
                    yield inner if inner in MODULES else module
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            yield from (argument.value for argument in node.args if getattr(argument, "value", None) in MODULES)


def room_of(module: str) -> str:
    """The room of a module, "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_room_imports_from_rooms_further_down(path: Path) -> None:
    room = room_of(module_of(path))
    if room == "":
        return  # the package's own names are imported when they are used
    assert room in ROOMS, f"{room} is not on the street"
    for module in imported(path):
        other = room_of(module)
        # The version is the one thing that a command asks of the package itself.
        allowed = other == room or (other == "" and room == "cli") or (other != "" and ROOMS[other] > ROOMS[room])
        assert allowed, f"{room} imports {module}"


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_no_circle_inside_a_room(room: str) -> None:
    graph = {
        module: {other for other in imported(path) if room_of(other) == room and other != module}
        for module, path in MODULES.items()
        if room_of(module) == room
    }
    assert list(TopologicalSorter(graph).static_order()) or not graph


def test_a_name_of_a_file_stands_once() -> None:
    names = Counter(path.name for path in sources() if path.name != "__init__.py" and "cli" not in path.parts)
    assert [name for name, count in names.items() if count > 1] == []


def test_every_room_says_what_it_is_for() -> None:
    for room in {path.parent for path in sources()} - {HOUSE}:
        text = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
        assert text, room
        first = re.search(r"Read `([\w.]+)`", text)
        assert first, f"{room} names nothing to read first"
        module, _, name = first[1].rpartition(".")
        assert re.search(rf"\b(?:def|class) {name}\b", (room / f"{module or name}.py").read_text()), first[0]


# Files of more than 400 lines, each with the reason why it is not two.
LONG: dict[str, str] = {}


def test_no_file_is_long_without_a_reason() -> None:
    adapters = sorted((ROOT / "adapters").rglob("*.py"))
    long = {path.relative_to(ROOT).as_posix() for path in (*sources(), *adapters) if path.read_text().count("\n") > 400}
    assert long == set(LONG)


def test_each_file_has_its_tests_in_the_same_place() -> None:
    for path in sources():
        if path.name != "__init__.py":
            test = ROOT / "tests" / path.relative_to(HOUSE).with_name(f"test_{path.stem.strip('_')}.py")
            tests = test.read_text() if test.exists() else ""
            missing = f"{path.relative_to(ROOT)} is tested nowhere: expected tests in {test.relative_to(ROOT)}"
            assert re.search(r"^ *def test_|\(Laws\):$", tests, flags=re.MULTILINE), missing


def private_names(tree: ast.AST) -> set[str]:
    """The private functions, classes, methods, attributes and variables that a module defines."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def reached(module: str, tree: ast.AST, foreign: set[str]) -> Iterator[str]:
    """The places where a module uses private names that others define."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("delayplug")):
            modules = {name.rpartition(".")[2] for name in MODULES}
            private = [a.name for a in node.names if a.name.startswith("_") and not a.name.startswith("__")]
            yield from (f"{module}:{node.lineno} imports {name}" for name in private if name not in modules)
        elif isinstance(node, ast.Attribute) and node.attr in foreign:
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield f"{module}:{node.lineno} .{node.attr}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
            names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            yield from (f"{module}:{node.lineno} {name}" for name in names if name in foreign)


def test_nobody_reaches_into_private_names_of_another_module() -> None:
    trees = {module: tree_of(path) for module, path in MODULES.items()}
    own = {module: private_names(tree) for module, tree in trees.items()}
    torchs = {*dir(nn.Module()), *dir(Tensor)}  # private, too, but another matter
    everybody = set().union(*own.values()) - torchs
    places = [place for module, tree in trees.items() for place in reached(module, tree, everybody - own[module])]
    for path in sorted((ROOT / "adapters").rglob("*.py")):
        tree = tree_of(path)
        places += reached(path.parent.name, tree, everybody - private_names(tree))
    assert places == []


def test_a_private_name_that_is_reached_for_is_noticed() -> None:
    code = "from .a import _b\nself._c\nother._c\ngetattr(other, '_c')\nother.d"
    assert list(reached("m", ast.parse(code), {"_c"})) == ["m:1 imports _b", "m:3 ._c", "m:4 _c"]


def test_few_modules_lie_outside_of_any_room() -> None:
    outside = {path.stem for path in HOUSE.glob("*.py")}
    assert outside == {
        "__init__",
        "__main__",
        "_colours",
        "_extras",
        "_files",
        "_moved",
        "_tables",
        "_triton",
        "errors",
    }
