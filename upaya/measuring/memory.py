"""What a model and its settings need in memory, before anything is loaded: the arithmetic behind `upaya plan`.

Bytes per parameter as in Rajbhandari et al. 2020 ("ZeRO", §3): weights and gradients in the model's precision, AdamW's
two moments and the float32 weights that it moves. What is shared out among N processes is divided by N: the optimiser's
state from ZeRO stage 1 on, gradients from 2 on, weights at 3.

Activations are those that torch keeps of a decoder layer for its backward pass: the input of every operation whose
gradient asks for it. What else is counted lies in memory at the moment that is the fullest. `python -m bench.plan`
sets the sum beside what the stages take.
"""

import math
from dataclasses import dataclass

from upaya.declared.curricula import Curricula
from upaya.declared.launch import Launch
from upaya.declared.model import ModelFile
from upaya.declared.sampling import ROWS_AT_ONCE
from upaya.measuring.shape import Shape

GB = 1e9
DRAWING = (
    24  # bytes beside a logit while a token is drawn: log-probability, probability, the same and its sum in float64
)
# What stands in modules that import torch (tests/test_plan.py holds these to them).
LOGITS_AT_ONCE = 256  # positions whose logits the loss works on together
CHECKPOINTS = 2  # that a stage keeps
BUCKET = 500_000_000  # gradients that DeepSpeed gathers before it adds them up: its reduce_bucket_size


@dataclass(frozen=True)
class Lengths:
    """Tokens of the longest prompt, and of the longest completion that the warm-up shows."""

    prompt: int = 256
    shown: int = 64


@dataclass(frozen=True)
class Needs:
    """Bytes that each process needs on its device.

    Attributes:
        reference: the weights that the policy is held close to (grpo.loss.kl above 0).
        gathered: the whole weights at ZeRO stage 3, while it samples.
        activations: what the layers keep of a micro-batch for the backward pass.
        scores: of these, attention's masks. (No kernel that is used keeps the scores themselves.)
        logits: of a micro-batch, the reference's too, and what the loss works on; or the gradient of the head.
        backward: what the layer that the backward pass is in takes: computed again, and gradients of activations.
        cache: keys and values of the completions that are decoded side by side.
        draws: the logits that these are drawn from, and what a draw puts beside them.
        saving: one float32 tensor of a checkpoint, put together where processes share it out.
        overhead: what is there before any model.
        largest: of the gradients, what stands there twice while it is added up.
        several: whether a step has several micro-batches: only then the gradients are there when one begins.
    """

    weights: float
    reference: float
    gradients: float
    optimiser: float
    gathered: float
    activations: float
    scores: float
    logits: float
    backward: float
    cache: float
    draws: float
    saving: float
    overhead: float
    largest: float
    several: bool

    @property
    def update(self) -> float:
        """The fullest moment of an update: at the logits, in a layer's backward pass, or with the last gradient."""
        before = self.gradients if self.several else 0.0
        passes = before + self.activations + self.scores + max(self.logits, self.backward)
        return max(passes, self.gradients + self.largest)

    @property
    def rollout(self) -> float:
        return self.gathered + self.cache + self.draws

    @property
    def peak(self) -> float:
        always = self.weights + self.reference + self.optimiser + self.overhead
        return always + max(self.update, self.rollout, self.saving)


@dataclass(frozen=True)
class Packed:
    """A micro-batch: so many prompts and completions, of so many tokens each."""

    prompts: float
    rows: float
    prompt: int
    completion: int

    @property
    def tokens(self) -> float:
        return self.prompts * self.prompt + self.own

    @property
    def own(self) -> float:
        """Tokens of the completions that are read: all but their last."""
        return self.rows * (self.completion - 1)

    @property
    def seen(self) -> float:
        """Places of the keys that the completions look at, each with its prompt's."""
        return self.rows * (self.prompt + self.completion - 1)

    @property
    def predicted(self) -> float:
        return self.rows * self.completion


def packed(budget: int, prompts: int, group: int, prompt: int, completion: int) -> tuple[Packed, bool]:
    """The fullest micro-batch of a batch of whole groups, and whether there are several."""
    whole = prompt + group * completion
    if budget >= prompts * whole:
        return Packed(prompts, prompts * group, prompt, completion), False
    if budget >= whole:
        return Packed(budget / whole, budget / whole * group, prompt, completion), True
    return Packed(1, max(1.0, (budget - prompt) / completion), prompt, completion), True


@dataclass(frozen=True)
class Passes:
    """Sizes of what passes of a model take."""

    shape: Shape
    model: ModelFile
    on_gpu: bool

    @property
    def width(self) -> int:
        return 2 if self.model.dtype == "bfloat16" else 4

    def layer(self, batch: Packed) -> float:
        """What one layer keeps of a micro-batch for its backward pass, but for the mask."""
        shape, width = self.shape, self.width
        casts = 0
        # Norms keep their input in float32; in float32 that is the residual stream itself.
        if not shape.rank:
            token = 2 * 4 * shape.hidden + width * (4 * shape.hidden + 4 * shape.intermediate + shape.queries)
            token += (4 + width) * shape.normed
        elif width == 4:
            token = 4 * (4 * shape.hidden + 4 * shape.intermediate + shape.queries + shape.normed)
        else:  # adapters read each layer's input in float32, a copy for each
            casts = 5 * shape.hidden + shape.queries + shape.intermediate
            token = 2 * 4 * shape.hidden + width * 3 * shape.intermediate + 4 * casts + 4 * shape.normed
        token += 7 * 4 * shape.rank
        repeated = shape.queries if self.on_gpu else shape.keys  # see packed_attention
        attention = batch.prompts * batch.prompt * (2 * shape.queries + 2 * shape.keys)
        attention += batch.own * 2 * shape.queries + batch.seen * 2 * repeated
        normalisers = 4 * shape.heads * (batch.prompts * batch.prompt + batch.own)
        return batch.tokens * token + width * attention + normalisers

    def mask(self, batch: Packed) -> float:
        """What a layer keeps of the mask: a number for each place that a completion's token may look at."""
        return self.width * batch.seen * (batch.completion - 1)

    def kept(self, batch: Packed) -> tuple[float, float]:
        """What all layers and the last norm keep, and their masks."""
        shape, width = self.shape, self.width
        around = batch.tokens * shape.hidden * (4 + width) + batch.predicted * shape.hidden * width
        if self.model.gradient_checkpointing:
            return shape.layers * batch.tokens * shape.hidden * width + around, 0.0
        return shape.layers * self.layer(batch) + around, shape.layers * self.mask(batch)

    @property
    def head(self) -> float:
        """The gradient of the head's weights."""
        return 0.0 if self.shape.rank else self.shape.vocabulary * self.shape.hidden * float(self.width)

    def backward(self, batch: Packed) -> float:
        """What the backward pass of a layer takes beside what is kept, where it is the fullest: in its MLP."""
        aside = batch.tokens * self.shape.intermediate * (10 if self.shape.rank and self.width == 2 else 2 * self.width)
        again = self.layer(batch) + self.mask(batch) if self.model.gradient_checkpointing else 0.0
        return again + aside + self.head

    def logits(self, batch: Packed, has_reference: bool, entropies: bool) -> float:
        """The logits, and the most that stands beside them: what the loss works on, the reference's logits with it, or
        the gradient of the head."""
        shape, width = self.shape, self.width
        own = batch.predicted * shape.vocabulary * width
        rows = min(LOGITS_AT_ONCE, batch.predicted)
        working = rows * shape.vocabulary * 4 * ((width == 2) + (4 if entropies else 1))
        return own + max(working, has_reference * (own + working), batch.predicted * shape.hidden * width + self.head)

    def rollout(self, prompts: int, group: int, lengths: Lengths, limit: int) -> tuple[float, float]:
        """The cache, and what stands beside it: of a draw and the attention before it, or of the prompts' pass."""
        shape, width = self.shape, self.width
        prompts = min(prompts, max(1, ROWS_AT_ONCE // group))
        rows, read = prompts * group, prompts * lengths.prompt
        cache = (rows * (limit - 1) + read) * shape.layers * 2 * shape.keys * width
        draw = rows * shape.vocabulary * (width + DRAWING)
        scores = rows * shape.heads * (lengths.prompt + limit) * (3 * width + 4)
        first = read * width * (3 * shape.intermediate + 4 * shape.hidden) + read * lengths.prompt * (1 + width)
        return cache, max(draw + scores, first)


@dataclass(frozen=True)
class _Work:
    """What a training stage does. Attributes: rolled: its rollouts, prompts of each process and completions of each."""

    batch: Packed
    several: bool
    rolled: list[tuple[int, int]]
    has_reference: bool
    entropies: bool


def _works(curricula: Curricula, share: int, lengths: Lengths, entropies: bool) -> list[_Work]:
    """Warm-up and GRPO, at their fullest: all prompts of the longest, all completions to the limit."""
    warmup, grpo, until = curricula.warmup, curricula.grpo, curricula.warmup.until
    own = math.ceil(warmup.batch_size / share)
    shown = packed(warmup.tokens_per_micro_batch, own, 1, lengths.prompt, lengths.shown)
    asked = [(math.ceil(until.questions / share), until.samples)]
    own = math.ceil(grpo.prompts / share)
    drawn = packed(grpo.tokens_per_micro_batch, own, grpo.group_size, lengths.prompt, curricula.sampling.max_new_tokens)
    rolled = [(own, grpo.group_size)]
    if grpo.validation:
        rolled.append((math.ceil(grpo.validation.questions / share), grpo.validation.samples))
    return [_Work(*shown, asked, False, False), _Work(*drawn, rolled, grpo.loss.kl > 0, entropies)]


def needs(
    shape: Shape, model: ModelFile, curricula: Curricula, launch: Launch, lengths: Lengths, *, on_gpu: bool = False,
    overhead: float = 0.0, entropies: bool = True,
) -> Needs:  # fmt: skip
    """The arithmetic for the fuller of warm-up and GRPO.

    Args:
        on_gpu: whether the launch is one on GPUs.
        overhead: bytes of what is there before any model.
        entropies: whether a regime gives a bonus for entropy.
    """
    works = _works(curricula, launch.processes, lengths, entropies)
    limit = curricula.sampling.max_new_tokens
    return max(
        (_needs_of(work, Passes(shape, model, on_gpu), launch, lengths, limit, overhead) for work in works),
        key=lambda each: each.peak,
    )


def _needs_of(work: _Work, passes: Passes, launch: Launch, lengths: Lengths, limit: int, overhead: float) -> Needs:
    shape, width, share, zero = passes.shape, passes.width, launch.processes, launch.zero
    trained_width = 4 if shape.rank else width  # adapters are in float32
    weights = float(shape.parameters * width)
    adapters = 4.0 * shape.trained if shape.rank else 0.0
    # moments, and float32 weights where there are none yet; without ZeRO the gradients are those of the latter
    kept = 8 if trained_width == 4 and not zero else 12
    gradient = trained_width if zero else 4
    bucket = min(BUCKET, shape.trained) * trained_width if zero else 0
    activations, scores = passes.kept(work.batch)
    cache, draws = max((passes.rollout(*each, lengths, limit) for each in work.rolled), key=sum)
    return Needs(
        weights=(weights + adapters) / (share if zero == 3 else 1),
        reference=weights + adapters if work.has_reference else 0.0,
        gradients=shape.trained * gradient / (share if zero >= 2 else 1) + bucket,
        optimiser=shape.trained * kept / (share if zero >= 1 else 1),
        gathered=weights + adapters if zero == 3 else 0.0,
        activations=activations,
        scores=scores,
        logits=passes.logits(work.batch, work.has_reference, work.entropies),
        backward=passes.backward(work.batch),
        cache=cache,
        draws=draws,
        saving=4.0 * shape.vocabulary * shape.hidden if zero else 0.0,
        overhead=overhead,
        largest=passes.head * (2 if work.several else 1),
        several=work.several,
    )


def checkpoints(shape: Shape) -> float:
    """Bytes on the disk: those that a stage keeps and the one that is being written, weights and moments in float32."""
    return (CHECKPOINTS + 1) * 12.0 * shape.trained


def policy(shape: Shape, model: ModelFile) -> float:
    """Bytes on the disk of a published policy; with adapters that are not merged, of these too."""
    adapters = 4.0 * shape.trained if model.lora and not model.lora.merge else 0.0
    return shape.parameters * (2.0 if model.dtype == "bfloat16" else 4.0) + adapters
