"""KeptDiagram under this name: what lets handlers of pytorch-ignite take a camshaft engine."""

from camshaft.adapters.as_ignite import as_ignite

__all__ = ["as_ignite"]
