"""Supervised training: pre-training on plain text, and warm-up on gold completions (SFT)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upaya import processes
from upaya.checkpoints import Checkpoints
from upaya.engine import Engine, engine_for
from upaya.errors import UserError
from upaya.grpo.measures import measure
from upaya.history import History
from upaya.interruption import stoppable
from upaya.logprobs import completion_logprobs
from upaya.micro_batches import micro_batches
from upaya.order import prompt_order
from upaya.packing import length_mask
from upaya.params import Pretraining, Warmup
from upaya.policy import Policy
from upaya.questions import Question
from upaya.rewards.regimes import Regime
from upaya.rewards.scoring import score
from upaya.rollouts import roll_out
from upaya.sampling import SamplingParams

OnRecord = Callable[[dict[str, Any]], None]
PRETRAIN_CHECKPOINT_EVERY = 100


def pretrain(
    policy: Policy,
    lines: Sequence[str],
    params: Pretraining,
    seed: int,
    work: Path,
    fingerprint: str,
    on_record: OnRecord,
    zero: int = 0,
) -> int:
    """Next-token prediction on lines of plain text, packed into one stream and cut into windows; returns the steps.

    The learning rate rises over `warmup_steps` and falls linearly to a tenth.
    """
    ends = [policy.tokenizer.eos_token_id]
    stream = torch.tensor([t for line in lines for t in policy.tokenizer(line)["input_ids"] + ends])
    windows = len(stream) - params.sequence_length
    engine = engine_for(policy, zero, **params.optimiser.model_dump())

    def losses_at(step: int) -> Iterator[Tensor]:
        starts = np.random.Generator(np.random.Philox(key=[seed, step])).integers(0, windows, params.batch_size)
        own = starts[processes.rank() :: processes.world()]
        tokens = torch.stack([stream[start : start + params.sequence_length] for start in own])
        tokens = tokens.to(policy.model.device)
        yield policy.forward(input_ids=tokens, labels=tokens, use_cache=False).loss * (len(own) / len(starts))

    def rate(step: int) -> float:
        rising = min(1.0, (step + 1) / max(1, params.warmup_steps))
        return rising * (1 - 0.9 * step / params.steps)

    def stop(step: int, record: dict[str, Any]) -> bool:
        return step == params.steps

    steps = _train(
        policy, engine, losses_at, rate, stop, params.steps, PRETRAIN_CHECKPOINT_EVERY, work, fingerprint, on_record
    )
    renew_unseen_embeddings(policy, stream, seed)
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
    weights[unseen] = (fresh * policy.model.config.initializer_range).to(weights.device)


def warm_up(
    policy: Policy,
    questions: Sequence[Question],
    validation: Sequence[Question],
    params: Warmup,
    sampling: SamplingParams,
    regimes: Mapping[str, Regime],
    seed: int,
    work: Path,
    fingerprint: str,
    on_record: OnRecord,
    zero: int = 0,
) -> int:
    """SFT on question → gold completion, loss on the completion's tokens only; returns the steps taken.

    Stops when sampled completions of validation questions reach `until.score` of the regime's maximum: models that
    took equal numbers of steps differ much over seeds, models of equal score less.
    """
    prompts = [policy.encode_prompt(question.prompt) for question in questions]
    golds = [policy.encode_completion(question.gold) for question in questions]
    until = params.until
    asked = list(validation[: until.questions])
    asked_prompts = [policy.encode_prompt(question.prompt) for question in asked]
    engine = engine_for(policy, zero, **params.optimiser.model_dump())

    def losses_at(step: int) -> Iterator[Tensor]:
        chosen = prompt_order(len(questions), step, params.batch_size, seed)
        places, said = range(len(chosen)), [len(golds[i]) for i in chosen]
        asked = [len(prompts[i]) for i in chosen]
        for batch, counts in micro_batches(places, said, places, asked, params.tokens_per_micro_batch):
            own = [chosen[place] for place in sorted(batch)]
            lengths = torch.tensor([len(golds[i]) for i in own])
            longest = int(lengths.max())
            tokens = torch.tensor([golds[i] + [policy.pad_id] * (longest - len(golds[i])) for i in own])
            logprobs = completion_logprobs(policy, [prompts[i] for i in own], torch.arange(len(own)), tokens, lengths)
            yield -(logprobs * length_mask(lengths, longest)).sum() * counts / sum(said)

    def stop(step: int, record: dict[str, Any]) -> bool:
        """Measure every so often, adding what was found to the step's record."""
        if step % until.every and step != params.max_steps:
            return False
        rollouts = roll_out(engine, asked_prompts, until.samples, sampling, seed=seed, step=step)
        scores = score(rollouts.texts(policy), asked, regimes)
        share = scores.rewards_PG[until.regime].mean().item() / regimes[until.regime].maximum
        record["validation"] = {"score": share, **measure(rollouts, scores)}
        return share >= until.score or step == params.max_steps

    return _train(
        policy,
        engine,
        losses_at,
        lambda step: min(1.0, (step + 1) / max(1, params.warmup_steps)),
        stop,
        params.max_steps,
        until.every,
        work,
        fingerprint,
        on_record,
    )


def _train(
    policy: Policy,
    engine: Engine,
    losses_at: Callable[[int], Iterator[Tensor]],
    rate: Callable[[int], float],
    stop: Callable[[int, dict[str, Any]], bool],
    max_steps: int,
    checkpoint_every: int,
    work: Path,
    fingerprint: str,
    on_record: OnRecord,
) -> int:
    """Steps from the last checkpoint on until `stop` says so after a step. Steps count from 0, records from 1."""
    checkpoints = Checkpoints(work / "checkpoints", fingerprint)
    history = History(work / "history.jsonl")
    checkpoint = checkpoints.latest()
    step, stopped = 0, False
    if checkpoint:
        engine.load_tensors(checkpoint.tensors)
        step, stopped = checkpoint.step, checkpoint.state["stopped"]
    history.truncate(checkpoint.state["history_offset"] if checkpoint else 0)
    with stoppable() as request:
        while step < max_steps and not stopped:
            policy.model.train()
            own = 0.0
            for part in losses_at(step):
                engine.backward(part)
                own += part.item()
            loss = sum(processes.gathered(own))
            try:
                norm = engine.step(rate(step))
            except UserError as error:
                raise UserError(f"{work.name}: step {step + 1} is not taken: {error}, the loss {loss}") from None
            step += 1
            record: dict[str, Any] = {"step": step, "loss": loss, "grad_norm": norm}
            stopped = stop(step, record)
            history.append(record)
            on_record(record)
            asked_to_stop = request.made()
            if stopped or asked_to_stop or step % checkpoint_every == 0:
                checkpoints.save(step, engine.tensors(), {"history_offset": history.offset, "stopped": stopped})
            if asked_to_stop and not stopped:
                request.stop(f"{work.name} is saved at step {step}")
    history.close()
    engine.finish()
    return step
