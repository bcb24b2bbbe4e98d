"""A generative adversarial network (Goodfellow et al. 2014): two networks and two optimizers in one ITERATION.

The forward pass, the backward pass and the step of each network are separate states, so a handler can run between any
two of them. The data are samples of a density in the plane, because the quality of generated samples can be measured
there: by the squared maximum mean discrepancy (MMD²) between generated and real samples. Run it:

    python examples/gan.py

It takes a few seconds. The MMD² of the generator starts at 0.8 and ends below 0.012. That is a fifth of the baseline,
a single Gaussian fitted to the data.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from camshaft import Engine, Events, Phase

LATENT = 8


def ring(number: int) -> torch.Tensor:
    """Return samples of shape (number, 2) of eight Gaussians of deviation 0.1 on a circle of radius 1."""
    angle = torch.randint(8, (number,)) * math.pi / 4
    return torch.stack([angle.cos(), angle.sin()], dim=1) + 0.1 * torch.randn(number, 2)


def mmd2(a: torch.Tensor, b: torch.Tensor, width: float = 0.5) -> float:
    """Return the unbiased MMD² of two equally large samples, with a Gaussian kernel (Gretton et al. 2012, eq. 3)."""
    in_a, in_b, across = (torch.exp(-((torch.cdist(x, y) / width) ** 2) / 2) for x, y in [(a, a), (b, b), (a, b)])
    pairs = in_a.sum() + in_b.sum() - 2 * len(a)  # without pairs of a sample with itself
    return (pairs / (len(a) * (len(a) - 1)) - 2 * across.mean()).item()


def gaussian(number: int) -> torch.Tensor:
    """Return samples of shape (number, 2) of the baseline, the Gaussian that fits the ring best."""
    return math.sqrt(0.5 + 0.1**2) * torch.randn(number, 2)


class Program(NamedTuple):
    """The engine, its data in batches, and the generator."""

    trainer: Engine
    batches: Sequence[torch.Tensor]
    generator: nn.Module

    @torch.no_grad()
    def sample(self, number: int) -> torch.Tensor:
        """Return generated samples of shape (number, 2)."""
        return self.generator(torch.randn(number, LATENT))


def build(seed: int = 0) -> Program:
    """Build the engine and the data, without running anything."""
    torch.manual_seed(seed)
    generator, discriminator = (
        nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs))
        for inputs, outputs in [(LATENT, 2), (2, 1)]
    )
    loss_fn = nn.BCEWithLogitsLoss()

    def discriminator_forward(engine: Engine, real: torch.Tensor) -> torch.Tensor:
        engine.state.fake = generator(torch.randn(len(real), LATENT))
        real_scores, fake_scores = discriminator(real), discriminator(engine.state.fake.detach())
        return loss_fn(real_scores, torch.ones_like(real_scores)) + loss_fn(fake_scores, torch.zeros_like(fake_scores))

    def generator_forward(engine: Engine, real: torch.Tensor) -> torch.Tensor:
        fake_scores = discriminator(engine.state.fake)
        return loss_fn(fake_scores, torch.ones_like(fake_scores))

    def phases(name: str, forward: Callable[..., torch.Tensor], network: nn.Module, lr: float) -> list[Phase]:
        optimizer = torch.optim.Adam(network.parameters(), lr=lr, betas=(0.5, 0.999))

        def backward(engine: Engine, real: torch.Tensor) -> float:
            optimizer.zero_grad()
            engine.state.output.backward()
            return engine.state.output.item()

        def step(engine: Engine, real: torch.Tensor) -> None:
            optimizer.step()

        return [Phase(f"{name}_FORWARD", forward), Phase(f"{name}_BACKWARD", backward), Phase(f"{name}_STEP", step)]

    discriminator_phases = phases("DISCRIMINATOR", discriminator_forward, discriminator, lr=0.001)
    generator_phases = phases("GENERATOR", generator_forward, generator, lr=0.0005)
    trainer = Engine([*discriminator_phases, *generator_phases], name="trainer")
    return Program(trainer, ring(250 * 200).split(250), generator)


def trainer() -> Engine:
    """Return the trainer, for ``camshaft show examples/gan.py:trainer``."""
    return build().trainer


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and print the MMD² after each epoch."""
    program, held_out = build(), ring(1000)
    engine = program.trainer
    print(f"{engine.loop}\nbaseline  MMD² {mmd2(gaussian(1000), held_out):.4f}")

    @engine.on(Events.STARTED | Events.EPOCH_COMPLETED)
    def show_discrepancy(engine: Engine) -> None:
        print(f"epoch {engine.state.epoch}   MMD² {mmd2(program.sample(1000), held_out):.4f}")

    engine.run(program.batches, max_epochs=5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
