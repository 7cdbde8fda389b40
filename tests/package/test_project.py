"""The files around the code: they parse, and they agree with each other and with the code."""

import ast
import copy
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import delayplug

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
GENERATED = {"node_modules", "build", "dist"}


def normal(name: str) -> str:
    """A distribution's name as the packaging standard normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(extra: str | None = None) -> dict[str, str]:
    """{name: lower bound} of the core's dependencies or of an extra's own, without the extras that it includes."""
    texts = EXTRAS[extra] if extra else PROJECT["dependencies"]
    matches = (re.fullmatch(r"([\w.-]+)>=([\w.]+)", text) for text in texts if not text.startswith("delayplug["))
    return {normal(match[1]): match[2] for match in matches if match}


def runtime() -> dict[str, str]:
    """{name: lower bound} of everything that a user can install with delayplug, without the developers' tools."""
    bounds = requirements()
    for extra in EXTRAS:
        if extra not in ("dev", "docs"):
            bounds |= requirements(extra)
    return bounds


def release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def padded(version: str) -> tuple[int, ...]:
    """Three numbers: 1.5 and 1.5.0 are one version."""
    return (*release(version), 0, 0)[:3]


def files(*patterns: str) -> list[Path]:
    """Files of the repository that match, those of hidden environments and of builds left out."""
    found = [path for pattern in patterns for path in ROOT.glob(pattern)]
    parts = {path: path.relative_to(ROOT).parts for path in found}
    skipped = {path for path in found if any(part in GENERATED or part.startswith(".venv") for part in parts[path])}
    return sorted(set(found) - skipped)


YAML = files("*.cff", ".*.yaml", ".*.yml", ".github/**/*.yml", ".github/**/*.yaml")
WORKFLOWS = files(".github/workflows/*.yml")


@pytest.mark.parametrize("path", YAML, ids=lambda path: str(path.relative_to(ROOT)))
def test_yaml_parses(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


@pytest.mark.parametrize("path", files("**/*.toml"), ids=lambda path: str(path.relative_to(ROOT)))
def test_toml_parses(path: Path) -> None:
    assert tomllib.loads(path.read_text())


def test_the_files_that_a_public_project_needs_are_there() -> None:
    assert {path.name for path in WORKFLOWS} >= {"ci.yml", "nightly.yml", "release.yml"}
    assert {path.name for path in YAML} >= {"CITATION.cff", ".pre-commit-config.yaml", "bug.yml", "feature.yml"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_what_github_asks_for(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow[True], "no triggers"  # YAML 1.1 reads the key `on` as a boolean
    assert workflow["jobs"]
    for name, job in workflow["jobs"].items():
        for needed in job.get("needs", []):
            assert needed in workflow["jobs"], (name, needed)
        if "uses" in job:  # another workflow of this repository
            called = yaml.safe_load((ROOT / job["uses"]).read_text())
            assert "workflow_call" in called[True]
        else:
            assert job["runs-on"], name
            assert job["timeout-minutes"] <= 300, name  # GitHub stops a job after 360
            assert all(("uses" in step) != ("run" in step) for step in job["steps"]), name


def test_citation_has_what_the_format_requires() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert all(citation[key] for key in ("message", "title", "authors"))
    assert citation["license"] == PROJECT["license"]
    assert all(reference[key] for reference in citation["references"] for key in ("authors", "title", "type"))
    identifiers = {entry["value"] for reference in citation["references"] for entry in reference["identifiers"]}
    assert identifiers >= {"arXiv:2306.17670", "arXiv:2112.03740"}


def test_versions_agree() -> None:
    version = PROJECT["version"]
    assert delayplug.__version__ == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest, "CHANGELOG.md has no heading with a version"
    assert release(newest[1]) >= release(version)


def test_classifiers_name_the_python_versions_that_the_workflow_tests() -> None:
    named = {text.rsplit(" ", 1)[1] for text in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", text)}
    tested = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["unit"]["strategy"]["matrix"][
        "python"
    ]
    assert named == set(tested)
    assert PROJECT["requires-python"] == f">={min(tested, key=release)}"


def targets() -> set[str]:
    """The targets of the Makefile that one can name."""
    rules = re.findall(r"^([a-z][a-z ]*):(?!=)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    return {name for rule in rules for name in rule.split()}


def named_targets() -> Iterator[tuple[str, str]]:
    """(file, target) of every `make TARGET` that a file tells people or machines to run."""
    paths = files("CONTRIBUTING.md", ".github/**/*.md", ".github/**/*.yml", ".pre-commit-config.yaml", ".ci/run")
    for path in paths:
        text = path.read_text()
        for match in re.finditer(r"(?:`|\$ |run: |entry: |^)make ([a-z]+)\b", text, flags=re.MULTILINE):
            yield str(path.relative_to(ROOT)), match[1]
    for path, job in (("nightly.yml", "nightly"), ("ci.yml", "wheel")):
        jobs = yaml.safe_load((ROOT / ".github/workflows" / path).read_text())["jobs"]
        matrix = jobs[job]["strategy"]["matrix"]["include"]
        yield from ((f".github/workflows/{path}", entry["target"]) for entry in matrix)


@pytest.mark.parametrize(("path", "target"), sorted(set(named_targets())))
def test_make_targets_that_are_named_exist(path: str, target: str) -> None:
    assert target in targets(), path


def test_the_public_workflows_try_every_extra_and_both_ends_of_the_versions() -> None:
    named = set(named_targets())
    assert {(".github/workflows/ci.yml", target) for target in ("wheel", "wheels", "oldest")} <= named
    assert {(".github/workflows/nightly.yml", target) for target in ("newest", "wheels", "oldest")} <= named


def test_every_target_of_the_makefile_is_phony() -> None:
    """A file of a target's name (docs/!) would stop make from running it."""
    phony = re.findall(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert {name for line in phony for name in line.split()} == targets()


def test_markers_that_tests_and_makefile_use_are_declared() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    declared = {marker.split(":")[0] for marker in options["markers"]} - {"cpu(reason)", "real(reason)"}  # of devices
    expression = re.search(r'PYTEST\) -m "([^"]*)"', (ROOT / "Makefile").read_text())
    assert expression
    assert set(re.findall(r"\w+", expression[1])) - {"not", "and", "or"} == declared == {"slow", "trains", "installs"}


def test_oldest_versions_are_the_lower_bounds() -> None:
    lines = (ROOT / ".ci/oldest.txt").read_text().splitlines()
    pins = {normal(name): version for name, _, version in (line.partition("==") for line in lines) if version}
    bounds = runtime()
    assert set(bounds) <= set(pins)
    assert {name: padded(pins[name]) for name in bounds} == {name: padded(bound) for name, bound in bounds.items()}


def without_types(tree: ast.AST) -> ast.AST:
    """A copy of a tree without what is for type checkers only."""

    class Leave(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> object:
            self.generic_visit(node)
            return node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else node

    return Leave().visit(copy.deepcopy(tree))


def imported(tree: ast.AST) -> set[str]:
    """The top-level packages of all absolute imports in a tree."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def imported_at_once(tree: ast.AST) -> set[str]:
    """The same for what has to be there when the module is imported.

    Left out are functions, what is for type checkers only, and what says which extra is missing.
    """
    names: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= imported(ast.Module([node], []))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            names |= imported_at_once(ast.Module(node.orelse, []))
        elif isinstance(node, ast.With) and extras_named(ast.Module([ast.Expr(node.items[0].context_expr)], [])):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            names |= imported_at_once(node)
    return names


def extras_named(tree: ast.AST) -> set[str]:
    """The extras whose absence a tree reports: `with extra("bench", what)` or `require(package, "bench", what)`."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
    place = {"extra": 0, "require": 1}
    named = (call.args[place[name]] for call in calls if (name := ast.unparse(call.func)) in place)
    return {str(node.value) for node in named if isinstance(node, ast.Constant)}


def third_party(names: set[str]) -> set[str]:
    """Those that are neither Python's nor ours; every one has the name of its distribution, case aside."""
    return {normal(name) for name in names if name not in sys.stdlib_module_names and not name.startswith("delayplug")}


# Come with torch where they can run, and are imported by modules that nothing else imports at its top.
KERNELS = {"triton"}
SOURCES = {path: ast.parse(path.read_text()) for path in files("delayplug/**/*.py", "adapters/**/*.py")}


# What speed is measured against, where users have it installed.
PEERS = {"sparx_network.py": {"jax", "optax", "sparx"}}


def optional(path: Path) -> set[str]:
    return KERNELS if "kernels" in path.parts or path.name == "_triton.py" else PEERS.get(path.name, set())


def test_every_import_is_declared() -> None:
    missing = {
        str(path.relative_to(ROOT)): third_party(imported(tree)) - set(runtime()) - optional(path)
        for path, tree in SOURCES.items()
    }
    assert {path: names for path, names in missing.items() if names} == {}


LIBRARY = {path: tree for path, tree in SOURCES.items() if path.is_relative_to(ROOT / "delayplug")}

# Rooms with a door that says what is missing: their file behind which all others are, and the extra.
DOORS = {"exchange/nir": ("files.py", "nir"), "plot": ("__init__.py", "bench")}


def behind_a_door(path: Path) -> set[str]:
    """What a file may import since the door of its room has seen to it."""
    _, extra = DOORS.get(path.parent.relative_to(ROOT / "delayplug").as_posix(), ("", None))
    return set() if extra is None else set(requirements(extra))


def test_doors_name_their_extra() -> None:
    for room, (door, extra) in DOORS.items():
        assert extras_named(SOURCES[ROOT / "delayplug" / room / door]) == {extra}


def test_the_core_declares_what_it_imports_at_once() -> None:
    at_once = {
        str(path.relative_to(ROOT)): third_party(imported_at_once(tree))
        - set(requirements())
        - behind_a_door(path)
        - optional(path)
        for path, tree in LIBRARY.items()
    }
    assert {path: names for path, names in at_once.items() if names} == {}


def test_imports_of_an_extra_say_which_extra_is_missing() -> None:
    unsaid = {}
    for path, tree in LIBRARY.items():
        declared = set(requirements()).union(*(requirements(extra) for extra in extras_named(tree)))
        unsaid[path.name] = third_party(imported(without_types(tree))) - declared - behind_a_door(path) - optional(path)
    assert {path: names for path, names in unsaid.items() if names} == {}


def test_the_core_imports_what_it_declares() -> None:
    used = third_party(set().union(*(imported(tree) for tree in LIBRARY.values())))
    assert set(requirements()) <= used


def test_extras_hold_what_they_promise() -> None:
    """`all` brings what one computer can use; developers have everything."""
    (everything,) = EXTRAS["all"]
    alone = set(re.findall(r"\w+", everything)) - {"delayplug"}
    assert alone == set(EXTRAS) - {"all", "dev", "docs", "ray", "sweep"}
    assert "delayplug[all,docs,ray,sweep]" in EXTRAS["dev"]
    assert "dcls" not in requirements()
    assert "typer" in requirements()


def test_imports_are_read_as_python_runs_them() -> None:
    source = """
from typing import TYPE_CHECKING
import numpy as np
try:
    import typer
except ImportError:
    pass
if TYPE_CHECKING:
    import h5py
class Net:
    import lightning.pytorch
def later():
    from matplotlib import pyplot
from . import kernels
with extra("bench", "the report"):
    import jinja2
with suppress(ImportError):
    import rich
"""
    tree = ast.parse(source)
    assert extras_named(tree) == {"bench"}
    assert extras_named(ast.parse("require('nir', 'nir', 'to_nir')")) == {"nir"}
    assert third_party(imported_at_once(tree)) == {"numpy", "typer", "lightning", "rich"}
    assert third_party(imported(tree)) == {
        *("numpy", "typer", "lightning", "h5py", "matplotlib", "jinja2", "rich"),
    }
