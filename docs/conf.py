"""How the documentation is built: ``sphinx-build -W --keep-going -b html docs OUT``.

The tutorial is executed, unless LATENTJAC_EXECUTED is a folder of its notebooks as ``tests/test_tutorial.py`` has
executed them; that test writes them there where the variable is set.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import latentjac

HERE = Path(__file__).parent
ROOT = HERE.parent

project = "latentjac"
author = "The latentjac authors"
project_copyright = "2026, the latentjac authors"
version = release = latentjac.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["images"]

html_theme = "furo"
html_title = f"latentjac {version}"
html_static_path = ["_static"]
html_css_files = ["latentjac.css"]
html_js_files = ["readers.js", "still.js"]
html_show_sourcelink = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Anchors of headings are those that the pages have where a repository is shown.
myst_heading_anchors = 4
# A cell that raises is an error of the build.
EXECUTED = os.environ.get("LATENTJAC_EXECUTED")
nb_execution_mode = "off" if EXECUTED else "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_inherit_docstrings = False
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def _pages_of_files() -> dict[Path, str]:
    """Files outside of docs/ that a page shows whole, and the page of each: it has nothing but an ``include``."""
    found = {}
    for page in HERE.rglob("*.md"):
        if match := re.fullmatch(r"```\{include\} (\S+)\n```\n", page.read_text()):
            found[(page.parent / match[1]).resolve()] = page.relative_to(HERE).with_suffix("").as_posix()
    return found


PAGES_OF_FILES = _pages_of_files() | {ROOT / "README.md": "index"}


def _rebased(text: str, folder: Path, page: str) -> str:
    """A page's text with its links, which are relative to ``folder``, as they have to be in ``page``."""

    def rebase(match: re.Match[str]) -> str:
        before, target, anchor = match.groups()
        if "://" in target or not target:
            return match[0]
        path = (folder / target).resolve()
        if path in PAGES_OF_FILES:
            path = HERE / f"{PAGES_OF_FILES[path]}.md"
        elif path.is_dir() or path.suffix == ".cff":
            return match[0]
        return before + Path(os.path.relpath(path, (HERE / page).parent)).as_posix() + anchor

    return re.sub(r"(\]\()([^)#\s]*)((?:#[^)]*)?\))", rebase, text)


def _read_source(app: Any, page: str, source: list[str]) -> None:
    """Links work both where the repository is shown and here; a page that is an ``include`` shows that file."""
    if EXECUTED and app.env.doc2path(page).suffix == ".ipynb":
        source[0] = (Path(EXECUTED) / app.env.doc2path(page).name).read_text()
    if app.env.doc2path(page).suffix != ".md":
        return
    folder = (HERE / page).parent
    for file, name in PAGES_OF_FILES.items():
        if name == page and name != "index":
            source[0], folder = file.read_text(), file.parent
    source[0] = _rebased(source[0], folder, page)


def _skip(app: Any, what: str, name: str, value: object, skip: bool, options: Any) -> bool | None:
    """Names of the top level have their place there, and not once more in the modules they come from."""
    return True if what == "module" and name in latentjac.__all__ and getattr(latentjac, name) is value else None


def setup(app: Any) -> None:
    """Connect what is above."""
    app.connect("source-read", _read_source)
    app.connect("autodoc-skip-member", _skip)
