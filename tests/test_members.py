"""A misspelt member of an enum of events is an error that names the nearest one."""

from __future__ import annotations

import copy
import enum
import pickle

import pytest

from camshaft import BackpropEvents, Engine, EventEnum, Events, Loop, Phase, TbpttEvents
from support.engines import ClipEvents
from support.steps import echo, no_op

LOOP = Loop("EPISODE", Phase("ACT", no_op))


class Scores(EventEnum):
    SCORE_STARTED = 1
    SCORE_COMPLETED = 2


MISSPELT = [
    (Events, "EPOCH_COMPLETE", "EPOCH_COMPLETED"),
    (Events, "EPOCH_COMPELTED", "EPOCH_COMPLETED"),
    (Events, "epoch_completed", "EPOCH_COMPLETED"),
    (Events, "EpochCompleted", "EPOCH_COMPLETED"),
    (Events, "ITERATION_START", "ITERATION_STARTED"),
    (Events, "TERMINATED", "TERMINATE"),
    (BackpropEvents, "OPTIMIZER_STEP_COMPLETED", "OPTIM_STEP_COMPLETED"),
    (TbpttEvents, "TIME_ITERATION_STARTS", "TIME_ITERATION_STARTED"),
    (ClipEvents, "GRAD_CLIPPED", "GRADS_CLIPPED"),
    (Scores, "SCORES_STARTED", "SCORE_STARTED"),
    (LOOP.events, "ACT_COMPLETE", "ACT_COMPLETED"),
    (Engine(echo).loop.events, "ITERATION_DONE", "ITERATION_STARTED|ITERATION_COMPLETED"),
]


@pytest.mark.parametrize(("members", "misspelt", "nearest"), MISSPELT)
def test_a_misspelt_member_names_the_nearest_one(members, misspelt, nearest):
    message = rf"^{members.__name__} has no member {misspelt}: did you mean ({nearest})\?$"
    with pytest.raises(AttributeError, match=message):
        getattr(members, misspelt)
    with pytest.raises(KeyError, match=message.replace("^", "").replace("$", "")):
        members[misspelt]


def test_a_member_of_another_enum_is_named_with_that_enum():
    for asked, name, owner in [
        (Events, "BACKWARD_COMPLETED", "BackpropEvents"),
        (BackpropEvents, "EPOCH_COMPLETED", "Events"),
        (Events, "SCORE_STARTED", "Scores"),
    ]:
        with pytest.raises(AttributeError, match=rf"^{asked.__name__} has no member {name}: it is in {owner}$"):
            getattr(asked, name)


def test_a_member_that_is_like_none_lists_all():
    with pytest.raises(AttributeError, match=r"^ClipEvents has no member XYZ: it has CLIP_STARTED, .*, GRADS_CLIPPED$"):
        ClipEvents.XYZ
    with pytest.raises(AttributeError, match=r"^EventEnum has no member XYZ: it has no members$"):
        EventEnum.XYZ


def test_an_event_of_another_loop_is_not_named():
    assert Engine(echo).loop.events.EPOCH_STARTED
    with pytest.raises(AttributeError, match=r"^LoopEvents has no member EPOCH_STARTED: .* EPISODE_STARTED\?$"):
        LOOP.events.EPOCH_STARTED


def test_a_misspelt_name_of_python_itself_stays_as_it_is():
    for name in ("__wrapped__", "_repr_html_", "_private"):
        assert not hasattr(Events, name)
        with pytest.raises(AttributeError, match=name):
            getattr(Events, name)


def test_members_are_those_of_any_other_enum():
    assert Events.STARTED is Events["STARTED"] is Events("started")
    events = LOOP.events
    assert [member.name for member in events if member is events.ACT_COMPLETED] == ["ACT_COMPLETED"]
    assert isinstance(events, enum.EnumMeta)
    assert issubclass(events, EventEnum)
    for member in (Events.STARTED, Scores.SCORE_STARTED):
        assert copy.deepcopy(member) is pickle.loads(pickle.dumps(member)) is member
