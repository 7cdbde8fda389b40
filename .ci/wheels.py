"""Builds sdist and wheel, and uses the wheel in fresh environments, each with one extra alone.

Usage: python .ci/wheels.py [--dist FOLDER] [NAME ...]

A NAME is `core` or an extra of pyproject.toml; without any: all of them. FOLDER gets the two files once they have
passed. The environments are those of the Python that runs this; each holds what the wheel's metadata asks for, and is
removed when it has been used. All packages come by pip, with its settings. What the core needs is installed once, and
put into the environments of the extras as hard links: it takes minutes, and most of five gigabytes.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from email import message_from_string
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / ".ci"
NOT_FOR_USERS = {"dev", "docs"}
TOOLS = ("build", "readme-renderer[md]", "twine")
# What of the caller's Python must not get in.
OUTSIDE = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONWARNINGS", "CONDA_PREFIX")

COLUMNS = ("environment", "packages", "size MB", "install s", "import s", "--help s", "checks s")


def names() -> list[str]:
    """The environments: the core, and each extra that is for users."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return ["core", *(extra for extra in extras if extra not in NOT_FOR_USERS)]


def relative_targets(text: str) -> list[str]:
    """Where the links and images of a Markdown text lead, if that is neither an address nor within the page."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", prose)
    targets += re.findall(r"^\[[^\]]+\]:\s*(\S+)", prose, flags=re.MULTILINE)
    targets += re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']+)", prose)
    return [target for target in targets if not re.match(r"https?://|#|mailto:", target)]


def metadata_of(wheel: Path) -> Message:
    """The metadata in a wheel; the payload of the message is the long description."""
    with ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(file.read(name).decode())


class StepError(Exception):
    """A step failed; the message is what it printed."""


class Workplace:
    """A folder with the tools, what was built, and the environments."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tools, self.dist = folder, folder / "tools" / "bin", folder / "dist"
        self.environment = {name: value for name, value in os.environ.items() if name not in OUTSIDE}
        self.environment |= {"PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1"}

    def run(self, *command: str | Path) -> str:
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, cwd=self.folder, env=self.environment, check=False
        )
        if done.returncode:
            raise StepError(f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}{done.stderr[-8000:]}")
        return done.stdout

    def build(self) -> Path:
        """Make the sdist, and the wheel from it, and check what a package index would show."""
        self.run(sys.executable, "-m", "venv", self.folder / "tools")
        self.run(self.tools / "python", "-m", "pip", "install", "-qq", *TOOLS)
        source = self.folder / "source"  # a copy, without what older builds left
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True, text=True, cwd=ROOT, check=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, source / name)
        self.run(self.tools / "python", "-m", "build", "--outdir", self.dist, source)
        self.run(self.tools / "twine", "check", "--strict", *sorted(self.dist.iterdir()))
        (wheel,) = self.dist.glob("*.whl")
        metadata = metadata_of(wheel)
        if left := relative_targets(metadata.get_payload()):
            raise StepError(f"the long description has links that a package index cannot follow: {', '.join(left)}")
        if not metadata.get_all("Project-URL"):
            raise StepError("the metadata has no address of the project")
        return wheel

    def environment_of(self, name: str, wheel: Path) -> Path:
        """A fresh environment with the wheel and one extra: its Python."""
        home = self.folder / name
        python, core = home / "bin" / "python", self.folder / "core"
        if name == "core":
            self.run(sys.executable, "-m", "venv", home)
        else:  # pip, too, is one of the packages that are linked
            self.run(sys.executable, "-m", "venv", "--without-pip", home)
            (ours,), (theirs,) = (list(at.glob("lib/python*/site-packages")) for at in (home, core))
            shutil.copytree(theirs, ours, copy_function=os.link, dirs_exist_ok=True)
        pip = (python, "-m", "pip", "install", "-qq", "--no-input")
        self.run(*pip, wheel if name == "core" else f"{wheel}[{name}]")
        if name != "core":
            self.run(*pip, "--no-deps", "--force-reinstall", wheel)  # for its command
        return python

    def try_out(self, name: str, wheel: Path) -> dict[str, str]:
        """Install the wheel with one extra, use it, and return a row of the table."""
        begin = time.perf_counter()
        python = self.environment_of(name, wheel)
        home = python.parents[1]
        installed = time.perf_counter()
        self.run(python, "-m", "pip", "check")
        times = json.loads(self.run(python, "-I", HERE / "installed.py", ROOT, name).splitlines()[-1])
        if name == "core":  # once from the sdist, as those do who install no wheels
            (sdist,) = self.dist.glob("*.tar.gz")
            self.run(python, "-m", "pip", "install", "-qq", "--no-deps", "--force-reinstall", sdist)
            self.run(python, "-I", "-c", "import delayplug; delayplug.LearnableDelay(5, 3, max_delay=8)")
            self.run(home / "bin" / "delayplug", "--version")
        packages = json.loads(self.run(python, "-m", "pip", "list", "--format", "json"))
        size = sum(path.lstat().st_size for path in home.rglob("*") if path.is_file()) / 1e6
        used = time.perf_counter() - installed
        spent = (f"{installed - begin:.1f}", times["import"], times["help"], f"{used:.0f}")
        row = (name, len(packages), f"{size:,.0f}", *spent)
        if name != "core":
            shutil.rmtree(home)
        return dict(zip(COLUMNS, map(str, row), strict=True))


def table(rows: list[dict[str, str]]) -> str:
    """The rows as Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row.values())} |" for row in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="environments (all); the core is always one of them")
    parser.add_argument("--dist", type=Path, help="folder for sdist and wheel")
    options = parser.parse_args()
    wanted = options.names or names()
    if unknown := set(wanted) - set(names()):
        parser.error(f"expected some of {', '.join(names())}, got {', '.join(sorted(unknown))}")
    rows, failures = [], []
    with tempfile.TemporaryDirectory(prefix="delayplug-wheels-") as folder:
        workplace = Workplace(Path(folder))
        try:
            wheel = workplace.build()
        except StepError as error:
            sys.exit(f"wheels: building failed\n{error}")
        for name in ("core", *(name for name in wanted if name != "core")):
            print(f"wheels: {name}", file=sys.stderr, flush=True)
            try:
                rows.append(workplace.try_out(name, wheel))
            except StepError as error:
                failures.append(name)
                print(f"wheels: {name} failed\n{error}", file=sys.stderr, flush=True)
                if name == "core":
                    break
        if options.dist is not None and not failures:
            options.dist.mkdir(parents=True, exist_ok=True)
            for path in workplace.dist.iterdir():
                shutil.copy(path, options.dist)
    print(table(rows))
    if failures:
        sys.exit(f"wheels: failed: {', '.join(failures)}")


if __name__ == "__main__":
    main()
