"""Everything documented runs: the blocks of README and docs, docstrings, examples, commands. No link is dead."""

import doctest
import importlib
import inspect
import pkgutil
import re
import runpy
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from matplotlib import pyplot

import delayplug
from delayplug import cli
from delayplug.bench.search.sampling import draw
from delayplug.bench.search.sweep_config import read_sweep

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def pages(*, with_a: str) -> list[Path]:
    return [path for path in PAGES if any(blocks(path, with_a))]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is that of its first line, from 0."""

    text: str
    line: int


def blocks(path: Path, language: str) -> Iterator[Block]:
    page = path.read_text()
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE):
        yield Block(match[1], page.count("\n", 0, match.start(1)))


@pytest.mark.slow
@pytest.mark.parametrize("path", pages(with_a="python"), ids=name_of)
def test_blocks_of_a_page_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # for the files that it writes
    namespace = {"__name__": "page"}  # one for the page: later blocks use what earlier ones made
    for block in blocks(path, "python"):
        # Tracebacks, and whoever reads the source of a function, find the lines of the page.
        exec(compile("\n" * block.line + block.text, str(path), "exec"), namespace)


TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", TUTORIALS, ids=name_of)
def test_tutorials_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one epoch: `make docs` runs them as they are, and stops at an error."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    cells = list(blocks(path, r"\{code-cell\} python"))
    assert sum("EPOCHS = 20" in cell.text for cell in cells) == 1
    try:
        for cell in cells:
            text = cell.text.replace("EPOCHS = 20", "EPOCHS = 1")
            exec(compile("\n" * cell.line + text, str(path), "exec"), namespace)
    finally:
        pyplot.close("all")
    assert namespace["accuracy"](namespace["network"]) >= 0


def test_tutorials_run_in_full_when_the_documentation_is_built() -> None:
    conf = runpy.run_path(str(ROOT / "docs" / "conf.py"))
    assert "myst_nb" in conf["extensions"]
    assert (conf["nb_execution_mode"], conf["nb_execution_raise_on_error"]) == ("auto", True)
    assert {path.stem for path in TUTORIALS} == {"snntorch", "norse", "spikingjelly"}
    for path in TUTORIALS:
        assert re.match(r"---\njupytext:.*\nkernelspec:.*\n---\n", path.read_text(), flags=re.DOTALL)
        assert f"{{nb-download}}`{path.stem}.ipynb`" in path.read_text()


def test_every_block_has_a_language() -> None:
    for path in PAGES:
        opening = re.findall(r"^```(.*)$", path.read_text(), flags=re.MULTILINE)[::2]
        known = {"python", "console", "text", "toml"}
        assert all(language in known or language.startswith("{") for language in opening), (name_of(path), opening)


def test_files_of_sweeps_are_read(tmp_path: Path) -> None:
    (page,) = pages(with_a="toml")
    (block,) = blocks(page, "toml")
    (tmp_path / "sweep.toml").write_text(block.text)
    config = read_sweep(tmp_path / "sweep.toml")
    draws = draw(config.space, [], config.options.at_once, config.options.sampler, 0)
    assert all(config.run(values, protocol="speakers") for values in draws)


def test_the_readme_has_a_block_per_toolkit_and_is_short() -> None:
    text = "".join(block.text for block in blocks(ROOT / "README.md", "python"))
    assert all(toolkit in text for toolkit in ("snntorch", "norse", "spikingjelly"))
    assert (ROOT / "README.md").read_text().count("\n") < 200


def commands(path: Path) -> list[list[str]]:
    lines = [line for block in blocks(path, "console") for line in block.text.replace("\\\n", " ").splitlines()]
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if line.startswith("$ ")]


def check_words(words: list[str]) -> None:
    """Fails unless delayplug has these subcommands and options."""
    command, name, above = typer.main.get_command(cli.app), "delayplug", None
    while True:
        context = command.make_context(name, [], parent=above, resilient_parsing=True)
        if not words or words[0] not in getattr(command, "commands", ()):
            break
        name, *words = words
        command, above = command.commands[name], context
    # Options of the groups (help, version, completion) end the program, and one changes a file of the user: not run.
    options = {option for parameter in command.get_params(context) for option in parameter.opts}
    if hasattr(command, "commands") or words in (["-h"], ["--help"]):
        assert len(words) == 1, words
        assert words[0] in options, words
    else:
        command.make_context(name, words, parent=above)


def check_command(command: list[str]) -> str:
    """The program that a command runs; fails unless it exists and takes these arguments."""
    if command[0] in ("torchrun", "srun"):  # whatever starts it
        command = command[command.index("delayplug") :]
    if command[0] == "delayplug":
        check_words(command[1:])
    elif command[0] == "make":
        assert re.search(rf"^{command[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), command
    elif command[:2] == ["pip", "install"]:
        extras = re.fullmatch(r"delayplug\[([\w,]+)\]", command[2])
        metadata = (ROOT / "pyproject.toml").read_text()
        wanted = [] if extras is None else extras[1].split(",")
        assert all(re.search(rf"^{extra} = \[", metadata, flags=re.MULTILINE) for extra in wanted), command
        assert extras or command[2] == "delayplug" or (ROOT / command[2]).is_dir(), command
    else:
        assert command[0] == "python", command
        assert (ROOT / command[-1 if command[1] == "-m" else 1]).exists(), command
    return command[0]


@pytest.mark.parametrize("path", pages(with_a="console"), ids=name_of)
def test_commands_exist(path: Path) -> None:
    assert all(check_command(command) for command in commands(path))


def test_commands_of_every_kind_are_checked() -> None:
    seen = {command[0] for path in PAGES for command in commands(path)}
    assert seen >= {"delayplug", "make", "pip", "python", "srun", "torchrun"}


WRONG = ["bench run --tea", "--tea", "bench tea", "tea -h"]
OTHER = ["make tea", "pip install delayplug[tea]", "tea now"]


@pytest.mark.parametrize("wrong", [*(f"delayplug {words}" for words in WRONG), *OTHER])
def test_a_wrong_command_is_noticed(wrong: str) -> None:
    with pytest.raises(Exception, match="tea"):
        check_command(shlex.split(wrong))


def anchors(page: str) -> set[str]:
    """Of the headings of a page, as GitHub and MyST make them."""
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    page = path.read_text()
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\((?!https?://)([^)\s]+)\)", prose)
    included = re.findall(r"^```\{\w+\} (\S+)$", page, flags=re.MULTILINE)
    for target in links + included:
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{name_of(path)} links to {target}"
        assert there.is_relative_to(ROOT.resolve())
        assert not anchor or anchor in anchors(there.read_text()), f"{name_of(path)} links to {target}"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_pages_name_no_place_that_only_we_have(path: Path) -> None:
    assert "shared/" not in path.read_text()


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = set()
    for path in PAGES:
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```$", path.read_text(), flags=re.DOTALL | re.MULTILINE):
            entries = [line for line in tree.splitlines() if line and not line.startswith(":")]
            listed |= {(path.parent / entry).with_suffix(".md") for entry in entries}
    assert listed | {ROOT / "README.md", ROOT / "docs" / "index.md"} == set(PAGES)


def test_every_public_name_is_in_the_reference_once() -> None:
    reference = "".join(path.read_text() for path in PAGES if path.parent.name == "api")
    documented = re.findall(r"^\.\. (?:auto)?(?:class|function|exception|data):: ([\w.]+)$", reference, re.MULTILINE)
    assert len(documented) == len(set(documented))
    expected = {f"delayplug.{name}" for name in delayplug.__all__}
    for room in ("plot", "data", "testing"):
        expected |= {f"delayplug.{room}.{name}" for name in importlib.import_module(f"delayplug.{room}").__all__}
    assert set(documented) == expected


def modules() -> list[str]:
    found = pkgutil.walk_packages(delayplug.__path__, "delayplug.")
    return ["delayplug", *(module.name for module in found)]


@pytest.mark.parametrize("name", modules())
def test_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, "a module says what it is for"
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL).failed == 0


def test_public_names_are_documented() -> None:
    for name in delayplug.__all__:
        thing = getattr(delayplug, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, name


# The gallery takes a folder, and tests/plot runs it; the trained network trains nothing.
OTHERS = {"gallery", "pretrained"}
PROGRAMS = [path for path in sorted((ROOT / "examples").glob("*.py")) if path.stem not in OTHERS]


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_example_gains_from_delays(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(path.parent)  # as for any program: one example imports another
    runpy.run_path(str(path), run_name="__main__")
    without, with_delays = (float(number) for number in re.findall(r"([\d.]+)%", capsys.readouterr().out))
    assert with_delays > 80
    assert without < with_delays / 2


@pytest.mark.slow
def test_example_of_a_trained_network(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each stage keeps the accuracy, and most of the answers."""
    path = ROOT / "examples" / "pretrained.py"
    monkeypatch.setattr("sys.argv", [str(path), "--recordings", "200"])
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    stages = re.findall(r"^(.{42}) +([\d.]+)% right, +([\d.]+)% as loaded$", printed, flags=re.MULTILINE)
    assert [stage.split()[0] for stage, _, _ in stages] == ["loaded", "delays", "silence", "streamed,", *["from"] * 3]
    assert all(float(right) > 85 and float(same) > 90 for _, right, same in stages)
    assert float(stages[1][2]) == 100  # frozen
    assert len({(right, same) for _, right, same in stages[2:]}) == 1  # a stream and NIR are what the network is then
    assert "as it comes in" in printed
