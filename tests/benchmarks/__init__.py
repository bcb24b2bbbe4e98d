"""Benchmarks: the costs of camshaft, compared with loops written by hand and with pytorch-ignite. ``make bench``.

All contenders are measured in one process. They take turns, and are compared within each round, so that a slow moment
of the machine slows all of them. The report has medians and quartiles of ratios and differences.
"""
