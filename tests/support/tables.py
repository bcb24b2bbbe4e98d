"""Tables of the README that tests make: what stands between two marks is what they found."""

from support import ROOT

README = ROOT / "README.md"


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def written(name: str) -> str:
    """The table as it stands in the README."""
    begin, end = _marks(name)
    return README.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0].strip()


def write(name: str, table: str) -> None:
    """Put a table in its place."""
    begin, end = _marks(name)
    text = README.read_text(encoding="utf-8")
    before, after = text.partition(begin)[0], text.partition(end)[2]
    README.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}", encoding="utf-8")
