"""Reinforcement learning with the loops EPISODE and TIMESTEP, without data.

A policy learns to balance a pole on a cart, by REINFORCE with a learned baseline (Williams 1992). The evaluator runs
the same loop without UPDATE. The random player runs that loop with another phase ACT. Run it:

    python examples/reinforcement_learning.py

It takes some seconds. A random or untrained policy balances the pole for about 20 of 200 timesteps, a trained policy
for about 190. With every seed, the trained policy lasts at least four times as long as the others.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from camshaft import Engine, Loop, Phase

MAX_TIMESTEPS, DISCOUNT = 200, 0.99


class CartPole:
    """Cart and pole of Barto, Sutton & Anderson (1983) without friction, in m, kg, s and rad, by Euler's method."""

    def reset(self) -> torch.Tensor:
        """Start an episode. Returns the observation: cart position and velocity, pole angle and angular velocity."""
        self.observation = torch.empty(4).uniform_(-0.05, 0.05)
        return self.observation

    def step(self, action: int) -> tuple[torch.Tensor, bool]:
        """Push left (0) or right (1) for 0.02 s. Returns the observation, and True if cart or pole is out of bounds."""
        _, x_dot, theta, theta_dot = self.observation.tolist()
        gravity, pole_mass, total_mass, half_length, force = 9.8, 0.1, 1.1, 0.5, 10.0 if action else -10.0
        sin, cos = math.sin(theta), math.cos(theta)
        push = (force + pole_mass * half_length * theta_dot**2 * sin) / total_mass
        theta_acc = (gravity * sin - cos * push) / (half_length * (4 / 3 - pole_mass * cos**2 / total_mass))
        x_acc = push - pole_mass * half_length * theta_acc * cos / total_mass
        self.observation = self.observation + 0.02 * torch.tensor([x_dot, x_acc, theta_dot, theta_acc])
        x, _, theta, _ = self.observation.tolist()
        return self.observation, abs(x) > 2.4 or abs(theta) > math.radians(12)


class Program(NamedTuple):
    """The engines that train the policy, evaluate it, and act at random."""

    trainer: Engine
    evaluator: Engine
    random_player: Engine


def build(seed: int = 0) -> Program:
    """Build the engines, without running anything."""
    torch.manual_seed(seed)
    environment = CartPole()
    policy, critic = (nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, outputs)) for outputs in (2, 1))
    optimizer = torch.optim.Adam(nn.ModuleList([policy, critic]).parameters(), lr=0.01)

    def reset(engine: Engine, _: None) -> None:
        engine.state.observation = environment.reset()
        engine.state.observations, engine.state.actions = [], []

    @torch.no_grad()
    def act(engine: Engine, _: None) -> int:
        return int(torch.multinomial(policy(engine.state.observation).softmax(0), 1))

    def environment_step(engine: Engine, _: None) -> None:
        engine.state.observations.append(engine.state.observation)
        engine.state.actions.append(engine.state.output)
        engine.state.observation, engine.state.terminated = environment.step(engine.state.output)

    def is_done(engine: Engine) -> bool:
        return engine.state.terminated or len(engine.state.actions) == MAX_TIMESTEPS

    def update(engine: Engine, _: None) -> None:
        observations, actions = torch.stack(engine.state.observations), torch.tensor(engine.state.actions)
        returns = 10 * (1 - DISCOUNT ** torch.arange(len(actions), 0, -1))  # a reward of 0.1 for each timestep left
        values = critic(observations).squeeze(1)
        advantages = returns - values.detach()
        losses = advantages * F.cross_entropy(policy(observations), actions, reduction="none")
        optimizer.zero_grad()
        (losses.mean() + F.mse_loss(values, returns)).backward()
        optimizer.step()

    timestep = Loop("TIMESTEP", Phase("ACT", act), Phase("ENVIRONMENT_STEP", environment_step), until=is_done)
    episode = Loop("EPISODE", Phase("RESET", reset), timestep, Phase("UPDATE", update))
    play = episode.remove("UPDATE")
    random_play = play.replace("ACT", Phase("ACT", lambda engine, _: int(torch.randint(2, ()))))
    return Program(Engine(episode, "trainer"), Engine(play, "evaluator"), Engine(random_play, "random_player"))


def mean_length(engine: Engine, episodes: int = 20) -> float:
    """Return the mean number of timesteps over a number of new episodes."""
    engine.close()
    return engine.run(max_epochs=episodes).timestep / episodes


def trainer() -> Engine:
    """Return the trainer, for ``camshaft show examples/reinforcement_learning.py:trainer``."""
    return build().trainer


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and compare the lengths of episodes."""
    program = build()
    print(f"{program.trainer.loop}\nrandom    {mean_length(program.random_player):5.1f} timesteps in an episode")
    print(f"untrained {mean_length(program.evaluator):5.1f}")
    program.trainer.run(max_epochs=300)
    print(f"trained   {mean_length(program.evaluator):5.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
