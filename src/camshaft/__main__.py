"""Entry point of ``python -m camshaft``: runs the command ``camshaft``."""

from camshaft.cli.app import app

app(prog_name="camshaft")
