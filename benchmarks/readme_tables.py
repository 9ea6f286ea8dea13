"""Writes the tables of the README and of docs/ from benchmarks/results/*.json; ``--check`` only compares.

A table stands between ``<!-- table NAME -->`` and ``<!-- /table -->`` and comes from the rows of ``results/NAME.json``,
or, as ``NAME.key``, from another list there. Between ``<!-- examples NAME -->`` and ``<!-- /examples -->`` stand the
examples of ``results/NAME.json``, each under its name.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from latentjac.files import read_json

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"<!-- table ([\w.]+) -->\n.*?<!-- /table -->", re.DOTALL)
CODE = re.compile(r"<!-- examples (\w+) -->\n.*?<!-- /examples -->", re.DOTALL)


def render(name: str) -> str:
    """One result as a Markdown table, with where it comes from."""
    file, _, key = name.partition(".")
    result = read_json("readme_tables", ROOT / "benchmarks" / "results" / f"{file}.json")
    rows: list[dict[str, Any]] = result[key or "rows"]
    heads = list(rows[0])
    lines = ["| " + " | ".join(head.replace("_", " ") for head in heads) + " |", "|" + " --- |" * len(heads)]
    lines += ["| " + " | ".join(cell(row[head]) for head in heads) + " |" for row in rows]
    return f"<!-- table {name} -->\n" + "\n".join(lines) + f"\n\n{origin(result)}\n<!-- /table -->"


def render_code(name: str) -> str:
    """The examples of one result, each a heading and a block of Python."""
    examples: dict[str, str] = read_json("readme_tables", ROOT / "benchmarks" / "results" / f"{name}.json")["examples"]
    blocks = [f"### {title}\n\n```python\n{code}\n```\n" for title, code in examples.items()]
    return f"<!-- examples {name} -->\n" + "\n".join(blocks) + "<!-- /examples -->"


def origin(result: dict[str, Any]) -> str:
    """The machine that a result was measured on, or the tools it was made with."""
    if "tools" in result:
        return f"{', '.join(result['tools'])}, {result['date']}."
    machine = result["machine"]
    where = machine.get("gpu") or f"{machine['processor']}, {machine['threads']} threads"
    return f"{where}, torch {machine['torch']}, {machine['date']}."


def cell(value: Any) -> str:
    """A value as short text."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if a page is out of date")
    args = parser.parse_args(arguments)
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        old = page.read_text()
        new = MARK.sub(lambda match: render(match[1]), old)
        new = CODE.sub(lambda match: render_code(match[1]), new)
        if args.check and new != old:
            sys.exit(f"{page.name}: tables are out of date; run python benchmarks/readme_tables.py")
        if not args.check and new != old:
            page.write_text(new)


if __name__ == "__main__":
    main()
