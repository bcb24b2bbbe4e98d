"""What holds for tests on engines of pytorch-ignite."""

from support.ignite_engines import quiet_and_clean

__all__ = ["quiet_and_clean"]
