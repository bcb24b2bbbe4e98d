"""What camshaft costs, against loops written by hand and against pytorch-ignite: ``make bench``.

Everything is measured in one process, the contenders taking turns, and compared round by round, so that a machine
that slows down slows all of them. What is reported are medians and quartiles of ratios and differences.
"""
