"""Standard loops: supervised training and evaluation, gradient accumulation, mixed precision, truncated BPTT."""

from camshaft._tensors import convert_tensor
from camshaft.training.supervised import (
    ForwardResult,
    create_supervised_evaluator,
    create_supervised_trainer,
    supervised_loop,
)
from camshaft.training.tbptt import TbpttEvents, create_supervised_tbptt_trainer, tbptt_loop

__all__ = [
    "ForwardResult",
    "TbpttEvents",
    "convert_tensor",
    "create_supervised_evaluator",
    "create_supervised_tbptt_trainer",
    "create_supervised_trainer",
    "supervised_loop",
    "tbptt_loop",
]
