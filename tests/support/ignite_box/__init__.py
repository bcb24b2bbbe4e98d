"""Every public metric and handler of pytorch-ignite, tried on an engine of camshaft."""

from support.ignite_box import handlers, metrics

__all__ = ["handlers", "metrics"]  # importing them registers their cases
