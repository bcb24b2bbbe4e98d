"""The command ``camshaft``."""

from camshaft.cli.app import app

__all__ = ["app"]
