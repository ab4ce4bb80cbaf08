"""Pre-training: next-token prediction on plain text."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upaya.declared.model import Pretraining
from upaya.policy.model import Policy
from upaya.training.sft.supervised import Plan, train_supervised
from upaya.training.steps import processes
from upaya.training.steps.engine import engine_for
from upaya.training.steps.run import Run

CHECKPOINT_EVERY = 100


def pretrain(policy: Policy, lines: Sequence[str], params: Pretraining, run: Run) -> int:
    """Next-token prediction on lines of plain text, packed into one stream and cut into windows; returns the steps."""
    ends = [policy.tokenizer.eos_token_id]
    stream = torch.tensor([t for line in lines for t in policy.tokenizer(line)["input_ids"] + ends])
    windows = len(stream) - params.sequence_length
    engine = engine_for(policy, run.zero, **params.optimiser.model_dump())

    def losses(step: int) -> Iterator[Tensor]:
        starts = np.random.Generator(np.random.Philox(key=[run.seed, step])).integers(0, windows, params.batch_size)
        own = starts[processes.rank() :: processes.world()]
        tokens = torch.stack([stream[start : start + params.sequence_length] for start in own])
        tokens = tokens.to(policy.model.device)
        yield policy.forward(input_ids=tokens, labels=tokens, use_cache=False).loss * (len(own) / len(starts))

    def rate(step: int) -> float:
        return params.schedule.at(step, params.steps)

    def stop(step: int, record: dict[str, Any]) -> bool:
        return step == params.steps

    def tokens(step: int) -> int:
        return params.batch_size * params.sequence_length

    steps = train_supervised(policy, engine, Plan(losses, rate, stop, tokens, params.steps, CHECKPOINT_EVERY), run)
    renew_unseen_embeddings(policy, stream, run.seed)
    return steps


@torch.no_grad()
def renew_unseen_embeddings(policy: Policy, stream: Tensor, seed: int) -> None:
    """Draw the embeddings of tokens that the text never held anew.

    The softmax pushes them all the same way at every step, so that the tags of a completion, which come only with the
    warm-up, would start as nearly one and the same token.
    """
    weights = policy.model.get_input_embeddings().weight
    assert isinstance(weights, Tensor)
    unseen = torch.ones(len(weights), dtype=torch.bool)
    unseen[stream.unique()] = False
    generator = torch.Generator().manual_seed(seed)
    fresh = torch.randn(int(unseen.sum()), weights.shape[1], generator=generator)
    weights[unseen] = (fresh * policy.model.config.initializer_range).to(weights)
