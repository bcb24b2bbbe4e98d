"""Loops that do nothing."""

from __future__ import annotations

import camshaft
import camshaft.testing
from camshaft import DATA, Loop, Phase, every
from camshaft.testing import return_batch


def standard(*body, **passes):
    return Loop("EPOCH", Loop("ITERATION", *body, over=DATA), **passes)


NAMES = {name: getattr(camshaft, name) for name in camshaft.__all__}
NAMES |= {name: getattr(camshaft.testing, name) for name in camshaft.testing.__all__}
STANDARD = Loop(
    "EPOCH", Loop("ITERATION", Phase("FORWARD", return_batch), Phase("OPTIM_STEP", when=every(2)), over=DATA)
)
