"""Loops of every shape, for tests of pictures."""

from camshaft import DATA, CustomState, EventPoint, Loop, OpaqueStep, Phase, every

LOOPS = {
    "standard": Loop("EPOCH", Loop("ITERATION", OpaqueStep(), over=DATA)),
    "phases": Loop(
        "EPOCH", Loop("ITERATION", Phase("A"), Phase("B", when=every(2)), Phase("C", when=every(3)), over=DATA)
    ),
    "inner": Loop("EPOCH", Phase("A"), Loop("TIME", Phase("B"), times=3), Loop("DATA_LOOP", over=DATA), Phase("C")),
    "free": Loop(
        "EPOCH",
        Loop("ITERATION", Phase("A"), over=DATA),
        custom_states=(CustomState("F", "f_started", "f_completed", "ITERATION"), CustomState("G", "g", None, "RUN")),
    ),
    "root": Loop("STEPS", Phase("A"), EventPoint("m"), over=DATA),
}
