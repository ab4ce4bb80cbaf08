"""GRPO: what all its stages share, and what each policy of the tree adds."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from upaya.declared.model import RateSchedule
from upaya.declared.sampling import SamplingChange
from upaya.declared.selection import Selection
from upaya.declared.validation import MOST, Betas, Declared, Name, Size

LossType = Literal["dapo", "grpo", "bnpo", "dr_grpo", "gspo", "cispo"]


class Loss(Declared):
    """Which loss, and how far the policy may move from the one that sampled.

    With r = π/π_old, A the advantage, and clip to [1 − epsilon_low, 1 + epsilon_high]; epsilon_high above epsilon_low
    is clip-higher (DAPO, §3.1):

    - `dapo`     −min(r·A, clip(r)·A), over the tokens of the whole generation batch (Yu et al. 2025, arXiv:2503.14476,
                 eq. 8: a long completion counts by its tokens);
    - `grpo`     the same, averaged within each completion, then over them (DeepSeekMath, arXiv:2402.03300, eq. 3);
    - `bnpo`     the same, over the tokens of each optimiser step's own part of the batch; equal to `dapo` where that is
                 the whole batch (the aggregation that TRL calls so);
    - `dr_grpo`  the same, over completions times `max_new_tokens` (Liu et al. 2025, arXiv:2503.20783, §3.2);
    - `gspo`     r is one ratio per completion, the geometric mean of its tokens' (Zheng et al. 2025, arXiv:2507.18071,
                 eq. 5 and 7), averaged over completions; its ratios stay near 1, so its clipping range is narrow
                 (§5.1: 3e-4 and 4e-4);
    - `cispo`    −sg(min(r, 1 + epsilon_high))·A·log π, over the tokens of the whole batch (MiniMax 2025,
                 arXiv:2506.13585, eq. 4 without a lower bound): a clipped token keeps its gradient.
    """

    type: LossType = "dapo"
    epsilon_low: float = Field(default=0.2, ge=0, lt=1)
    epsilon_high: float = Field(default=0.2, ge=0)
    kl: float = Field(default=0.0, ge=0, description="weight of the k3 divergence of live groups from the parent")
    mask_truncated: bool = Field(
        default=False, description="completions cut off at the token limit are not learned from (DAPO, §3.4)"
    )
    dead_groups_count: bool = Field(
        default=False, description="tokens of dead groups enlarge the denominator, as in TRL: the loss is diluted"
    )


class Recompute(Declared):
    """Ratios compare with the log-probabilities that the update's own pass gives before its first optimiser step, at
    the price of that pass, and no longer with those of the sampler. Of one optimiser step per batch they always do."""

    type: Literal["recompute"]


class Truncate(Declared):
    """The same, and the loss of each token is weighed by min(π_update / π_sampler, cap): truncated importance sampling
    (Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training"; TRL and verl have it for
    samplers that are another program)."""

    type: Literal["truncate"]
    cap: float = Field(default=2.0, ge=1, le=MOST)


RolloutCorrection = Annotated[Recompute | Truncate, Field(discriminator="type")]


Scaling = Literal["none", "group", "batch", "mean"]


class Drop(Declared):
    """Dead groups are left out; the update is made from the live ones, however few."""

    type: Literal["drop"]


class Refill(Declared):
    """Dynamic sampling (DAPO, arXiv:2503.14476, §3.2): further rounds of prompts are sampled from the same policy until
    `live` groups are live or `most_rounds` are used up. Every round counts as a step of the budget."""

    type: Literal["refill"]
    live: int = Field(gt=0, description="live groups that an update waits for")
    most_rounds: int = Field(gt=1, description="rounds of prompts after which it is made from those found")


class Scale(Declared):
    """The step shrinks with the live share: the learning rate of an update is multiplied by it. (Scaling the loss would
    not do: Adam divides by the gradient's own size.)"""

    type: Literal["scale"]


DeadGroups = Annotated[Drop | Refill | Scale, Field(discriminator="type")]


class Uniform(Declared):
    """Every question as often as any other: one seeded permutation after the other."""

    type: Literal["uniform"]


class Pools(Declared):
    """Questions by what became of their group when they were last drawn (prime-rl has such pools over tasks). In the
    order of `uniform`, a question is taken with the chance of its pool; one that was not drawn yet always is."""

    type: Literal["pools"]
    solved: float = Field(default=0.1, ge=0, le=1, description="all of the group were exactly right")
    hopeless: float = Field(default=0.3, ge=0, le=1, description="dead under every regime, though not solved")


Sampler = Annotated[Uniform | Pools, Field(discriminator="type")]


class Alarm(Declared):
    """When the alarms of a curriculum's health sound. Training goes on: the event is for whoever looks.

    Collapse: the mean entropy, length or format rate over `window` steps is less than `falls_to` of that over the
    `window` steps before; silent afterwards for two windows. A healthy run of the default questions never falls
    below 0.7 from ten steps to the next ten. The others look at `health_window` steps and sound once in a stage,
    each skill's for itself: a skill is unlearnt while the others get on, success has fallen since the best that was
    reached (after a switch, say), success stands still below what is wanted.

    The gap is success on the training prompts less that on validation questions, both measured at the same steps, in
    the mean of the last `gap_over` measurements. It sounds when it is more than `gap` above nothing, and again whenever
    it has grown by more than that since it last sounded. With the default's 32 prompts a step and 64 validation
    questions its standard error is 0.06 at most, a third of `gap`; while a stage has fewer measurements the error is
    larger, and as much larger is the growth asked for.

    Partial credit has no slope where as many groups are dead under it as under strict, in the first `window` steps.
    """

    window: int = Field(default=10, gt=0)
    falls_to: float = Field(default=0.5, gt=0, lt=1)
    health_window: int = Field(default=50, gt=0)
    unlearnt: float = Field(default=0.75, ge=0, lt=1, description="a skill right less often than this is unlearnt …")
    while_others: float = Field(default=0.9, gt=0, le=1, description="… while the median skill is right this often")
    regresses_to: float = Field(default=0.7, gt=0, lt=1, description="success under this share of the best window's")
    stands_below: float = Field(default=0.9, gt=0, le=1, description="success that stands still below this …")
    gain: float = Field(default=0.01, ge=0, description="… rising by less than this over two windows")
    gap: float = Field(default=0.2, gt=0, lt=1, description="success on training prompts above that on validation ones")
    gap_over: int = Field(default=3, gt=0, description="measurements")
    dead_alike: float = Field(default=0.02, ge=0, le=1, description="dead groups by so much fewer than under strict …")
    dead_alike_from: float = Field(default=0.1, gt=0, le=1, description="… while this share of them is dead")


class Keep(Declared):
    """Which groups of the rollouts stand in the policy's rollouts.jsonl, with all that was made of them. About 10 kB a
    group of the default questions: 3.8 MB for a curriculum at the default."""

    every: int = Field(default=1, gt=0, description="steps from one to the next")
    groups: int = Field(default=2, ge=0, description="groups of a step: dead and live ones in turn; 0 keeps none")


class Validation(Declared):
    """How often strict success on validation questions is measured, beside that in the rollouts: the questions of the
    stage's own selection that training never shows, asked and sampled as training asks and samples.

    The next `questions` of a seeded order at each measurement: a mean over several is one over more questions. What is
    drawn for them changes no random number of training, and is no part of the budget.
    """

    every: int = Field(gt=0, description="steps since the warm-up from one measurement to the next")
    questions: Size
    samples: Size = Field(default=1, description="completions of each: more questions tell more")


class SuccessRate(Declared):
    """Fires when the share of exactly right completions, averaged over the last `window` steps, reaches `threshold`.

    On validation questions the mean is that of the measurements of these steps, and where there was none among them it
    is the last one; `grpo.validation` has to declare them.
    """

    type: Literal["success_rate"]
    threshold: float = Field(gt=0, le=1)
    window: int = Field(default=10, gt=0)
    on: Literal["training", "validation"] = Field(
        default="training", description="whose prompts: those trained on, or validation questions"
    )


class LiveShare(Declared):
    """Fires when the share of live groups under `regime`, averaged over the last `window` steps, reaches `threshold`.

    Named with the regime that comes next: it is taken when it has something to compare.
    """

    type: Literal["live_share"]
    regime: str
    threshold: float = Field(gt=0, le=1)
    window: int = Field(default=10, gt=0)


class Plateau(Declared):
    """Fires when the reward trained on has stopped rising: its mean over the last `window` steps is less than `gain`
    above its mean over the `window` steps before."""

    type: Literal["plateau"]
    gain: float = Field(default=0.01, description="in units of the reward")
    window: int = Field(default=25, gt=0)


class Steps(Declared):
    """Fires after `steps` steps of this stage."""

    type: Literal["steps"]
    steps: int = Field(gt=0)


class AnyOf(Declared):
    """Fires when one of the conditions does."""

    type: Literal["any"]
    of: list["Condition"] = Field(min_length=1)


class AllOf(Declared):
    """Fires when all of the conditions do, at the same step."""

    type: Literal["all"]
    of: list["Condition"] = Field(min_length=1)


Condition = Annotated[SuccessRate | LiveShare | Plateau | Steps | AnyOf | AllOf, Field(discriminator="type")]


def simple_ones(condition: Condition) -> list[SuccessRate | LiveShare | Plateau | Steps]:
    """The conditions that a condition is made of, `any` and `all` taken apart."""
    if isinstance(condition, AnyOf | AllOf):
        return [simple for part in condition.of for simple in simple_ones(part)]
    return [condition]


def regimes_in(condition: Condition) -> list[str]:
    """The regimes that a condition names."""
    return [simple.regime for simple in simple_ones(condition) if isinstance(simple, LiveShare)]


def is_on_validation(condition: Condition | None) -> bool:
    """Whether a condition looks at success on validation questions."""
    simple_conditions = simple_ones(condition) if condition else []
    return any(isinstance(simple, SuccessRate) and simple.on == "validation" for simple in simple_conditions)


class Grpo(Declared):
    """What all GRPO stages of a curriculum share."""

    budget: int = Field(gt=0, description="steps from the warm-up to the end of a curriculum, all stages together")
    prompts: Size = Field(description="prompts per step")
    group_size: int = Field(gt=1, le=MOST, description="completions per prompt")
    max_grad_norm: float = Field(gt=0)
    betas: Betas = (0.9, 0.95)
    loss: Loss = Loss()
    rollout_correction: RolloutCorrection | None = Field(
        default=None, description="of what sampler and update round differently (docs/scaling.md); None: nothing"
    )
    scale_rewards: Scaling = "none"
    dead_groups: DeadGroups = Drop(type="drop")
    iterations: int = Field(default=1, gt=0, description="passes over each batch (μ of DeepSeekMath, algorithm 1)")
    mini_batches: Size = Field(default=1, description="optimiser steps per pass, each on a part of the groups")
    sampler: Sampler = Uniform(type="uniform")
    alarm: Alarm = Alarm()
    validation: Validation | None = Field(default=None, description="None: success on validation is not measured")
    keep: Keep = Keep()
    compile: bool = Field(
        default=False, description="torch.compile the layers for updates: half a minute first, then a sixth faster"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="of the products in updates (autocast); bfloat16 pays for larger models",
    )
    tokens_per_micro_batch: int = Field(gt=0)
    checkpoint_every: int = Field(gt=0, description="steps from one checkpoint to the next")

    @model_validator(mode="after")
    def a_refill_can_succeed(self) -> Self:
        if isinstance(self.dead_groups, Refill) and self.dead_groups.live > self.prompts * self.dead_groups.most_rounds:
            raise ValueError(
                f"a refill waits for {self.dead_groups.live} live groups, but {self.dead_groups.most_rounds} rounds of "
                f"{self.prompts} prompts hold {self.prompts * self.dead_groups.most_rounds}"
            )
        return self


class PolicyParams(Declared):
    """One policy of the tree: from which parent, under which regime or schedule, on which questions, how long."""

    from_: Name = Field(alias="from")
    regime: Name
    learning_rate: float = Field(gt=0)
    schedule: RateSchedule = RateSchedule()
    optimiser: Literal["fresh", "inherited"] = Field(
        default="fresh", description="AdamW's moments at the start: none, or those that the parent ended with"
    )
    keep_optimiser: bool = Field(
        default=False, description="publish AdamW's moments with the policy, for children that inherit them"
    )
    sampling: SamplingChange | None = None
    questions: Selection | None = None
    max_steps: int | None = Field(default=None, gt=0)
    until: Condition | None = None
