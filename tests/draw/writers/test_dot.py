"""Pictures for Graphviz, as its own parser reads them: they say what the machine says."""

from __future__ import annotations

from hypothesis import given, settings

from camshaft.testing import loops
from support.drawn_elsewhere import seen_by_graphviz
from support.picture import customs, differences, frees_of

few = settings(max_examples=settings.default.max_examples // 5)


@few
@given(loop=loops())
def test_graphviz_reads_the_machine_of_any_loop(graphviz, loop):
    seen = seen_by_graphviz(graphviz(loop.diagram("full", control=True).dot()))
    assert not differences(seen, loop)
    assert customs(seen) == frees_of(loop)
