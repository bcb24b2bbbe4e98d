"""Fixtures for tests of metrics: data and models."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from support.learning import CLASSES, FEATURES, SAMPLES


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SAMPLES, FEATURES, generator=generator)
    y = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=8)  # the last batch has two samples


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Linear(FEATURES, CLASSES)
