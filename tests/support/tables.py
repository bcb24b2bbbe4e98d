"""Tables of the README that code writes between two marks.

``PYTHONPATH=tests python -m support.tables box`` and ``... ignite-box`` write them.
"""

import importlib
import sys

from support import ROOT

README = ROOT / "README.md"
TABLES = {
    "box": ("table of the box", "support.box"),
    "ignite-box": ("table of pytorch-ignite's box", "support.ignite_box.table"),
}
"""By name: the text in the marks of a table, and the module whose function ``table`` returns it."""


def _marks(name: str) -> tuple[str, str]:
    mark, _ = TABLES[name]
    return f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"


def written(name: str) -> str:
    """Return the table as it is in the README."""
    begin, end = _marks(name)
    return README.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0].strip()


def write(name: str) -> None:
    """Make a table, and write it to the README."""
    begin, end = _marks(name)
    _, module = TABLES[name]
    table = importlib.import_module(module).table()
    text = README.read_text(encoding="utf-8")
    before, after = text.partition(begin)[0], text.partition(end)[2]
    README.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}", encoding="utf-8")


def how_to_write(name: str) -> str:
    """Return the advice for a table that is out of date."""
    return f"write it again: PYTHONPATH=tests python -m support.tables {name}"


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in TABLES:
        sys.exit(f"name one table: {', '.join(TABLES)}")
    write(sys.argv[1])
