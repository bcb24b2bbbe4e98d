"""Killed and resumed trainings end exactly like an uninterrupted one. ``make chaos`` kills more of them."""

import random

import pytest
import torch
from rich.console import Console

from chaos.__main__ import report
from chaos.harness import chaos
from chaos.training import PLACES


def test_a_training_killed_at_each_place_ends_the_same(tmp_path):
    found = chaos(10, 0, tmp_path)
    assert found.differences == []
    assert found.is_good and found.kills == dict.fromkeys(PLACES, 1)
    assert found.resumes >= 5 and found.damaged == 0 and not found.warnings
    assert len(found.unfinished) == found.kills["write"] + found.kills["rename"]

    console = Console(record=True, width=120)
    report(console, found)
    assert "differences from an uninterrupted training: 0" in console.export_text()


def begins_anew(library):
    fresh = {"python": random.Random(1).getstate(), "torch": torch.Generator().manual_seed(1).get_state()}
    return lambda state: state["random"].update({library: fresh[library]})


@pytest.mark.parametrize(
    "spoil",
    [
        begins_anew("python"),
        begins_anew("torch"),
        lambda state: state["random"].pop("numpy", None),
        lambda state: state["in data"]["inside"]["generators"].clear(),
        lambda state: state["in data"]["inside"]["generators"].pop("sampler.rng", None),
        lambda state: state["modules"]["model"]["gradients"].clear(),
        lambda state: state["handlers"].pop("trainer: EMA", None),
        lambda state: state["handlers"]["trainer: extremes"]["attributes"]["changed"].clear(),
    ],
    ids=[
        "python's generator",
        "torch's generator",
        "numpy's generator",
        "generators of the data",
        "a sampler's own generator",
        "gradients",
        "ema",
        "a wrapped metric",
    ],
)
def test_a_state_left_out_of_snapshots_is_noticed(tmp_path, spoil):
    found = chaos(2, 0, tmp_path, spoil)
    assert found.kills == found.planned and not found.is_good
    assert found.differences and not any("ended with" in one for one in found.differences)


def test_another_batch_size_in_resumed_processes_is_noticed_and_told(tmp_path):
    found = chaos(2, 0, tmp_path, batch_size=33)  # as many batches as with 32
    assert found.kills == found.planned and found.differences
    assert len(found.warnings) == found.resumes > 0
    assert all("the batch size is 33, and was 32" in text for text in found.warnings)


def test_a_failed_training_is_reported_with_its_output(tmp_path):
    found = chaos(2, 0, tmp_path, lambda state: state["objects"].pop("optimizer", None))
    assert not found.is_good
    assert "has no state of optimizer: it was written with model" in found.differences[0]
