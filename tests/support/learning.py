"""A small data set, models and optimizers, for tests that compare trainings bit for bit."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SAMPLES, FEATURES, CLASSES = 50, 6, 3
criterion = nn.CrossEntropyLoss()


def dataset():
    """Return 50 samples: 6 batches of 8, and one of 2."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SAMPLES, FEATURES, generator=generator)
    y = (x @ torch.randn(FEATURES, CLASSES, generator=generator)).argmax(dim=1)
    return TensorDataset(x, y)


def classifier(dropout=0.2, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, CLASSES)
    )


def batches(seed=0, **options):
    options = {"batch_size": 8, "shuffle": True} | options
    return DataLoader(dataset(), generator=torch.Generator().manual_seed(seed), **options)


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def weights(model):
    return [value.clone() for value in model.state_dict().values()]


def same(first, second):
    """Return whether two models have the same weights, bit for bit."""
    first, second = weights(first), weights(second)
    return len(first) == len(second) and all(map(torch.equal, first, second))


class Unsized:
    """Data without ``len()``."""

    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return iter(self.data)
