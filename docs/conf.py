"""How Sphinx builds these pages: `make docs`. Needs no network."""

import itertools
import re
from typing import Any

import delayplug

project = "delayplug"
author = "the delayplug authors"
release = version = delayplug.__version__

extensions = [
    "myst_nb",  # which holds myst_parser
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Tutorials run when they are read, and an error in one of them stops the build.
nb_execution_mode = "auto"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_show_tb = True
nb_merge_streams = True
nb_number_source_lines = False

html_theme = "furo"
html_title = "delayplug"
html_static_path = ["_static"]
html_css_files = ["delayplug.css"]
html_copy_source = html_show_sourcelink = html_show_copyright = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say types in words, with shapes and units
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
napoleon_use_param = False  # "a, b: text" is one entry for two names
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]

# `name` in a docstring is a link where it is a public name, and code elsewhere.
default_role = "py:obj"
nitpick_ignore_regex = [
    ("py:obj", ".*"),
    ("py:(class|exc)", r"(torch|numpy|pathlib|collections|typing)\..*|\w*Error"),
]

_HANGING = re.compile(r"^(\w[\w ,]*): +(?=\S)(.*)$")
_CODE_OR_STAR = re.compile(r"(`[^`]*`|\*\*\w[\w ]*\*\*)|\*")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _escape(match: re.Match[str]) -> str:
    return match[1] or r"\*"


def _paragraphs(lines: list[str]) -> list[list[str]]:
    filled = itertools.groupby(lines, key=lambda line: bool(line.strip()))
    return [list(paragraph) for is_filled, paragraph in filled if is_filled]


def plain_text_to_rst(*event: Any) -> None:
    """Make a docstring, which is plain text, reStructuredText.

    Set-off blocks are literal, `name: text` that hangs is a definition, a * is a *.
    """
    lines: list[str] = event[-1]
    result: list[str] = []
    above: int | None = None  # indentation of the text above a literal block
    last = 0  # indentation of the last line
    for paragraph in _paragraphs(lines):
        first = _indent(paragraph[0])
        above = None if above is not None and first <= above else above
        is_doctest = paragraph[0].lstrip().startswith(">>>")
        if above is None and result and first > last and not is_doctest:
            above = last
            result += [" " * above + "::", ""]
        last = _indent(paragraph[-1]) if above is None else last
        if above is None and not is_doctest:
            if paragraph[0] == "Returns:":
                paragraph[0] = ":Returns:"  # or a colon in its text would end a type
            elif any(_indent(line) for line in paragraph):
                paragraph = [_HANGING.sub(r"\1\n    \2", line) for line in paragraph]
            paragraph = [_CODE_OR_STAR.sub(_escape, line) for line in paragraph]
        result += [line for text in paragraph for line in text.split("\n")] + [""]
    lines[:] = result


def setup(app: Any) -> None:
    # Before napoleon, which reads the sections.
    app.connect("autodoc-process-docstring", plain_text_to_rst, priority=100)
