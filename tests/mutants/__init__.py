"""Mutants: measure how many faults the tools of camshaft find. ``make mutants`` prints the result.

A check that never fails proves nothing. Here the generated loop, the code that drives it and recorded traces are
changed in many small ways. Each tool judges each change by comparison with the unchanged loop.

- :mod:`mutants.cases`: the loops, and runs in which a change can have an effect.
- :mod:`mutants.source`: changes of the generated source, made systematically from its lines.
- :mod:`mutants.driving`: changes of the code around the loop that decides about the order of events.
- :mod:`mutants.traces`: changes of recorded traces.
- :mod:`mutants.tools`: the tools that judge.
- :mod:`mutants.possible`: whether a loop can produce a trace, found by making it do so.
- :mod:`mutants.measure`: the verdicts, and the conditions that they must meet.
"""
