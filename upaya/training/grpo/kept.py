"""Groups that are kept to be looked at: rollouts.jsonl, in which one can see why a group was dead."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from upaya.corpus.answers import parse
from upaya.corpus.questions import Question
from upaya.declared.grpo import Keep, Scaling
from upaya.rewards.groups import fates
from upaya.rewards.scoring import Scores
from upaya.training.grpo.batch import Batch
from upaya.training.grpo.credit import FORM, WHOLE, Earned

DIGITS = 4  # of what is kept to be read, not to be computed with


@dataclass
class _Pending:
    """A group of a batch that waits for its advantages. Attributes: place: its place in the batch."""

    place: int
    record: dict[str, Any]


class Keeper:
    """Chooses groups of a step's rollouts; their advantages are known when the batch is complete."""

    def __init__(self, keep: Keep) -> None:
        self.keep = keep
        self._pending: list[_Pending] = []

    def look(
        self, step: int, first: int, questions: Sequence[Question], texts: Sequence[Sequence[str]], scores: Scores,
        earned: Earned,
    ) -> None:  # fmt: skip
        """Keep some of a step's groups. Args: step: counted from 1. first: the batch's place of the first of them."""
        if not self.keep.groups or (step - 1) % self.keep.every:
            return
        under = {name: fates(rewards_PG, scores.exact_PG) for name, rewards_PG in scores.rewards_PG.items()}
        trained = ["live" if live else "dead" for live in earned.live_P.tolist()]
        for p in chosen([question.id for question in questions], trained, self.keep.groups):
            question = questions[p]
            record = {
                "step": step,
                "question": question.id,
                "prompt": question.prompt,
                "right": question.answer,
                "trained": trained[p],
                "fates": {name: met[p] for name, met in under.items()},
                "completions": [_completion(text, question, scores, p, g) for g, text in enumerate(texts[p])],
            }
            self._pending.append(_Pending(first + p, record))

    def taken(self, batch: Batch, scaling: Scaling) -> list[dict[str, Any]]:
        """What was kept of a batch that is complete, with the advantages that its update is made from."""
        if not self._pending:
            return []
        advantages_PGT, slots_PGT, rollouts = batch.advantages(scaling), batch.slots_PGT, batch.rollouts
        for kept in self._pending:
            for g, completion in enumerate(kept.record["completions"]):
                length = int(rollouts.lengths_PG[kept.place, g])
                completion["tokens"] = length
                completion["finished"] = bool(rollouts.finished_PG[kept.place, g])
                own = slice(0, length)
                completion["advantages"] = _by_part(advantages_PGT[kept.place, g, own], slots_PGT[kept.place, g, own])
        records, self._pending = [kept.record for kept in self._pending], []
        return records


def chosen(identities: Sequence[str], fates: Sequence[str], most: int) -> list[int]:
    """Places of up to `most` groups: each fate in turn, and within one by a hash of the question, so that a question
    that was kept once is likely to be kept when it comes again."""
    waiting: dict[str, list[int]] = {}
    for place in sorted(range(len(identities)), key=lambda place: _rank(identities[place])):
        waiting.setdefault(fates[place], []).append(place)
    queues = [waiting[fate] for fate in sorted(waiting, reverse=True)]  # a live one first
    turns = [queue[turn] for turn in range(most) for queue in queues if turn < len(queue)]
    return turns[:most]


def _rank(identity: str) -> bytes:
    return hashlib.sha256(identity.encode()).digest()


def _completion(text: str, question: Question, scores: Scores, p: int, g: int) -> dict[str, Any]:
    """A completion with its answer and what it is worth. `items`: what it says in each place of the right answer, None
    where it says nothing; `hits`: whether that is right."""
    size = int((~scores.right_PGS[p, g].isnan()).sum())
    said = {item.slot: item.said for item in scores.said[p][g] if item.slot is not None}
    return {
        "text": text,
        "answer": parse(text, question.form).answer,
        "items": [said.get(slot) for slot in range(size)],
        "hits": [bool(hit) for hit in scores.right_PGS[p, g, :size].tolist()],
        "exact": bool(scores.exact_PG[p, g]),
        "components": _rounded({name: values[p, g] for name, values in scores.components_PG.items()}),
        "rewards": _rounded({name: rewards[p, g] for name, rewards in scores.rewards_PG.items()}),
    }


def _by_part(advantages_T: Tensor, slots_T: Tensor) -> dict[str, float]:
    """A completion's advantages by the part of the answer that tokens belong to; all tokens of a part have the same."""
    names = {WHOLE: "whole", FORM: "form"}
    found = {}
    for slot in torch.unique(slots_T).tolist():
        found[names.get(slot, f"item {slot}")] = advantages_T[slots_T == slot][0]
    return _rounded(found)


def _rounded(values: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: round(value.item(), DIGITS) + 0.0 for name, value in values.items()}
