"""With which passes each event is counted, and what filters on it count."""

from camshaft import DATA, CustomState, Loop, Phase
from camshaft.loop.counting import counter_attribute_by_event, counter_loop_by_event
from support.steps import no_op

CUSTOM = CustomState("X", "x_started", "x_completed", "ITERATION")
LOOP = Loop("EPOCH", Loop("ITERATION", Phase("FORWARD", no_op), over=DATA), custom_states=(CUSTOM,))


def test_an_event_is_counted_with_the_loop_around_it():
    loops = counter_loop_by_event(LOOP)
    assert loops["forward_started"] == loops["x_completed"] == loops["iteration_completed"] == "ITERATION"
    assert loops["get_batch_started"] == loops["dataloader_stop_iteration"] == "ITERATION"
    assert loops["epoch_started"] == loops["started"] == loops["terminate"] == "EPOCH"
    assert set(loops) == set(LOOP.event_keys)


def test_filters_on_events_of_passes_count_the_state():
    attributes = counter_attribute_by_event(LOOP)
    assert attributes["epoch_completed"] == "epoch"
    assert attributes["iteration_started"] == attributes["get_batch_completed"] == "iteration"
    assert attributes["iteration_skipped"] == "iteration"


def test_filters_on_other_events_count_firings():
    attributes = counter_attribute_by_event(LOOP)
    assert not {"x_started", "forward_completed", "dataloader_stop_iteration", "terminate"} & set(attributes)
