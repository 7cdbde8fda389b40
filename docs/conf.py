"""How Sphinx builds these pages: `make docs`. Needs no network."""

import re
from typing import Any

import delayplug

project = "delayplug"
author = "the delayplug authors"
release = version = delayplug.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "delayplug"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # types of arguments are said in words: shapes and units need them
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
napoleon_use_ivar = True
napoleon_use_rtype = False

# `name` in a docstring is a link where it is a public name, and code elsewhere.
default_role = "py:obj"
nitpick_ignore_regex = [("py:obj", ".*"), ("py:(class|exc)", r"(torch|nn|collections|enum|typing|abc)\..*|\w*Error")]

_HANGING = re.compile(r"(\w[\w ,]*): +(\S.*)")
_CODE_OR_STAR = re.compile(r"(`[^`]*`)|\*")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def plain_text_to_rst(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text: a block that is set off is literal, `name: text` that hangs defines, a * is a *."""
    result: list[str] = []
    literal: int | None = None  # indentation that a set-off block is deeper than
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if literal is not None and line.strip() and _indent(line) <= literal:
            literal = None
        if literal is None and line.strip() and number > 1 and not lines[number - 1].strip():
            before = next(earlier for earlier in reversed(lines[:number]) if earlier.strip())
            if _indent(line) > _indent(before) and not line.lstrip().startswith(">>>"):
                literal = _indent(before)
                result += [" " * literal + "::", ""]
        if literal is not None:
            result.append(line)
            continue
        hanging = _HANGING.fullmatch(line) if following.strip() and _indent(following) else None
        rewritten = [hanging[1], f"    {hanging[2]}"] if hanging else [line]
        if not line.lstrip().startswith((">>>", "...")):
            rewritten = [_CODE_OR_STAR.sub(lambda match: match[1] or r"\*", part) for part in rewritten]
        result += rewritten
    lines[:] = result


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", plain_text_to_rst, priority=100)  # before napoleon
