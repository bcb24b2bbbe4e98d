"""``python -m camshaft``."""

from camshaft.cli import app

app(prog_name="camshaft")
