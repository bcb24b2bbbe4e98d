"""Tests of batches: every tensor in nested containers is moved to the device."""

from collections import namedtuple

import torch

from camshaft.training import convert_tensor


def test_convert_tensor_moves_every_tensor_of_a_nest():
    pair = namedtuple("pair", "left right")
    one = torch.ones(2)
    nest = {"list": [one, 1], "tuple": (one, "text"), "pair": pair(one, b"raw"), "none": None}
    moved = convert_tensor(nest, torch.device("meta"))
    devices = [moved["list"][0], moved["tuple"][0], moved["pair"].left]
    assert [tensor.device.type for tensor in devices] == ["meta"] * 3
    assert (moved["list"][1], moved["tuple"][1], moved["pair"].right, moved["none"]) == (1, "text", b"raw", None)
    assert isinstance(moved["pair"], pair)
    assert convert_tensor(one) is one
