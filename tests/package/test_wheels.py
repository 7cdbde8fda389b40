"""The built package: what an index shows of it, and that it works where nothing else is installed."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WHEELS = runpy.run_path(str(ROOT / ".ci" / "wheels.py"), run_name="wheels")
INSTALLED = runpy.run_path(str(ROOT / ".ci" / "installed.py"), run_name="installed")
SETUP = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")
REPOSITORY = PROJECT["urls"]["Repository"]


@pytest.mark.installs
@pytest.mark.slow
def test_the_core_and_one_extra_work_in_fresh_environments(tmp_path: Path) -> None:
    """`make wheels` tries the other extras."""
    command = [sys.executable, str(ROOT / ".ci" / "wheels.py"), "--dist", str(tmp_path), "core", "snntorch"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [re.split(r" *\| *", line.strip("| ")) for line in done.stdout.splitlines()]
    assert [row[0] for row in rows if len(row) == 7] == ["environment", "---", "core", "snntorch"]
    seconds = dict(zip(rows[0], rows[2], strict=True))
    assert float(seconds["import s"]) < 5
    version = PROJECT["version"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"delayplug-{version}-py3-none-any.whl",
        f"delayplug-{version}.tar.gz",
    ]
    metadata = WHEELS["metadata_of"](tmp_path / f"delayplug-{version}-py3-none-any.whl")
    description = metadata.get_payload()
    assert description.startswith("# delayplug\n")
    assert WHEELS["relative_targets"](description) == []
    assert f"]({REPOSITORY}/raw/v{version}/docs/images/realigned.png)" in description
    assert f"Repository, {REPOSITORY}" in metadata.get_all("Project-URL")


def test_each_extra_for_users_is_tried() -> None:
    extras = set(PROJECT["optional-dependencies"]) - {"dev", "docs"}
    assert set(WHEELS["names"]()) == {"core", *extras}
    assert set(INSTALLED["PACKAGES"]) == extras - {"all"}
    assert {extra for _, packages, _ in INSTALLED["USES"] for extra in packages.values()} == extras - {"all"}


def test_the_readme_has_a_block_that_is_run_per_toolkit() -> None:
    titles = re.findall(r"^## (\w+)\n\n```python\n", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert {title.lower() for title in titles} >= set(INSTALLED["TOOLKITS"])


def test_the_long_description_has_no_relative_links() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(WHEELS["relative_targets"](readme)) > 10
    text = SETUP["with_addresses"](readme, REPOSITORY, "v1.2.3")
    assert WHEELS["relative_targets"](text) == []
    assert f"]({REPOSITORY}/raw/v1.2.3/docs/images/realigned.png)" in text
    assert f"]({REPOSITORY}/blob/v1.2.3/LICENSE)" in text
    paths = re.findall(rf"\]\({REPOSITORY}/(?:raw|blob)/v1\.2\.3/([^)#]+)", text)
    assert all((ROOT / path).is_file() for path in paths)
    assert len(paths) == len(WHEELS["relative_targets"](readme))


def test_addresses_and_code_stay_as_they_are() -> None:
    text = "[a](https://x.org/y) [b](#c) [d](e.md#f) ![g](h.png)\n```text\n[i](j.md)\n```\n[k](l.md)\n"
    assert SETUP["with_addresses"](text, "https://z.org/o/n", "v1") == (
        "[a](https://x.org/y) [b](#c) [d](https://z.org/o/n/blob/v1/e.md#f) ![g](https://z.org/o/n/raw/v1/h.png)\n"
        "```text\n[i](j.md)\n```\n[k](https://z.org/o/n/blob/v1/l.md)\n"
    )


@pytest.mark.parametrize("text", ["[a](b.md)", "![a](b.png)", '<img src="b.png">', '<a href="b.md">', "[a]: b.md"])
def test_a_relative_link_is_noticed(text: str) -> None:
    assert WHEELS["relative_targets"](text) in (["b.md"], ["b.png"])
    assert WHEELS["relative_targets"](text.replace("b.", "https://b.org/b.")) == []


def test_addresses_of_the_project_are_those_of_one_repository() -> None:
    assert set(PROJECT["urls"]) >= {"Repository", "Documentation", "Changelog", "Issues"}
    assert all(url.startswith(REPOSITORY) for url in PROJECT["urls"].values())
    for kind, path in re.findall(rf"{REPOSITORY}/(blob)/main/(\S+)", "\n".join(PROJECT["urls"].values())):
        assert (ROOT / path).is_file(), (kind, path)
