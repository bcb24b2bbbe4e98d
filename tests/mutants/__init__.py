"""Mutants: how much the tools of camshaft notice, measured. ``make mutants`` prints it.

A check that never fails proves nothing. Here the generated loop, the code that drives it and recorded traces are
changed in many small ways, and each tool judges each change against the loop as it is.

- :mod:`mutants.cases`: the loops, and the runs of them in which a change could show.
- :mod:`mutants.source`: changes of the generated source, made systematically from its lines.
- :mod:`mutants.driving`: changes of the code around it, where order is made.
- :mod:`mutants.traces`: changes of recorded traces.
- :mod:`mutants.tools`: what judges.
- :mod:`mutants.possible`: whether a loop can do what a trace says, found out by letting it do so.
- :mod:`mutants.measure`: what was caught, by what, and what must hold.
"""
