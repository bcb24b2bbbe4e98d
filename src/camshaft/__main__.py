"""``python -m camshaft``."""

from camshaft.cli.app import app

app(prog_name="camshaft")
