"""The long description: README.md with addresses in place of relative links, as a package index has no other files.

Everything else about the package is in pyproject.toml.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def with_addresses(text: str, repository: str, tag: str) -> str:
    """A page of Markdown whose relative links and images lead to the repository's files at a tag.

    Links within the page and blocks of code stay as they are.

    Args:
        text: the page.
        repository: its address, such as https://github.com/owner/name.
        tag: a version of the files.
    """

    def address(match: re.Match[str]) -> str:
        image, label, target = match.groups()
        return f"{image}[{label}]({repository}/{'raw' if image else 'blob'}/{tag}/{target})"

    link = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|mailto:|#)([^)\s]+)\)")
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else link.sub(address, part) for part in parts)


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    setup(
        long_description=with_addresses(readme, project["urls"]["Repository"], f"v{project['version']}"),
        long_description_content_type="text/markdown",
    )
