"""Everything declared under params/ that concerns models, training and curricula."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from upaya.errors import UserError, nearest
from upaya.grpo.advantages import Scaling
from upaya.grpo.alarm import Alarm
from upaya.grpo.batch import DeadGroups, Drop, Refill
from upaya.grpo.loss import Loss
from upaya.grpo.switching import Condition, regimes_in
from upaya.policy import Handling
from upaya.questions import Selection
from upaya.rewards.schedules import RegimesFile
from upaya.sampling import SamplingParams
from upaya.validation import Declared, FileName, Name, load_yaml

CURRICULA = Path("params/curricula.yaml")
MODELS = Path("params/models")
LAUNCHES = Path("params/launch")
RESERVED = ("base", "warmup", "auto", "compare")


class Optimiser(Declared):
    """AdamW with gradient clipping."""

    learning_rate: float = Field(gt=0)
    max_grad_norm: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)


class Pretraining(Declared):
    """How a model made from scratch learns to read the corpus."""

    vocab_size: int = Field(ge=300)
    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    sequence_length: int = Field(gt=1)
    warmup_steps: int = Field(default=20, ge=0)
    optimiser: Optimiser


class ModelFile(Handling):
    """params/models/*.yaml: a model from scratch (architecture and pretraining), or one that exists (path or hub)."""

    path: str | None = None
    hub: str | None = None
    shape: dict[str, Any] | None = Field(
        default=None, description="the configuration of a hub model, for `upaya plan` where it is not yet at hand"
    )
    architecture: dict[str, Any] | None = None
    pretraining: Pretraining | None = None

    @model_validator(mode="after")
    def one_origin(self) -> Self:
        if sum(origin is not None for origin in (self.path, self.hub, self.architecture)) != 1:
            raise ValueError("give exactly one of 'path', 'hub' and 'architecture'")
        if (self.architecture is None) != (self.pretraining is None):
            raise ValueError("'architecture' and 'pretraining' go together")
        positions = (self.architecture or {}).get("max_position_embeddings")
        if self.pretraining and positions and self.pretraining.sequence_length > positions:
            raise ValueError(
                f"pretraining.sequence_length is {self.pretraining.sequence_length}, but the architecture has "
                f"max_position_embeddings {positions}"
            )
        return self

    @property
    def source(self) -> str | None:
        return self.path or self.hub


class UntilScore(Declared):
    """When warm-up stops: sampled completions on validation questions reach a mean score under a regime."""

    regime: str
    score: float = Field(gt=0, le=1, description="share of the regime's maximum")
    every: int = Field(gt=0, description="steps between measurements")
    questions: int = Field(gt=0)
    samples: int = Field(gt=0)


class Launch(Declared):
    """In how many processes the training stages run, and what they share out."""

    processes: int = Field(default=1, gt=0, description="in all, over all nodes")
    zero: int = Field(default=0, ge=0, le=3, description="stage of DeepSpeed's ZeRO; 0: every process holds everything")
    threads: int | None = Field(default=None, gt=0, description="of each process on a CPU; None: the cores, shared out")
    hostfile: Path | None = Field(default=None, description="nodes and their slots, as DeepSpeed's launcher reads them")
    device_memory: float | None = Field(
        default=None, gt=0, description="GB of each device, for `upaya plan`; None: of this machine's"
    )

    @property
    def is_plain(self) -> bool:
        """Whether the stage's own process is all there is."""
        return self.processes == 1 and not self.zero


class Warmup(Declared):
    """Supervised fine-tuning on question → gold completion, loss on the completion only.

    `questions`: what it teaches, where that is not what the policies are trained on; it is measured on the latter.
    """

    questions: Selection | None = None
    max_steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    warmup_steps: int = Field(default=20, ge=0, description="steps over which the learning rate rises")
    tokens_per_micro_batch: int = Field(default=16384, gt=0)
    optimiser: Optimiser
    until: UntilScore


class Grpo(Declared):
    """What all GRPO stages of a curriculum share."""

    budget: int = Field(gt=0, description="steps from the warm-up to the end of a curriculum, all stages together")
    prompts: int = Field(gt=0, description="prompts per step")
    group_size: int = Field(gt=1, description="completions per prompt")
    max_grad_norm: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    loss: Loss = Loss()
    scale_rewards: Scaling = "none"
    dead_groups: DeadGroups = Drop(type="drop")
    iterations: int = Field(default=1, gt=0, description="passes over each batch (μ of DeepSeekMath, algorithm 1)")
    mini_batches: int = Field(default=1, gt=0, description="optimiser steps per pass, each on a part of the groups")
    alarm: Alarm = Alarm()
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
    questions: Selection | None = None
    max_steps: int | None = Field(default=None, gt=0)
    until: Condition | None = None


class Evaluation(Declared):
    samples: int = Field(gt=0, description="completions per question for pass@k")
    ks: list[int] = Field(min_length=1)
    bootstrap: int = Field(gt=0, description="resamples of the questions for the intervals")

    @model_validator(mode="after")
    def enough_samples(self) -> Self:
        if max(self.ks) > self.samples:
            raise ValueError(f"pass@{max(self.ks)} needs at least {max(self.ks)} samples")
        return self


class Probe(Declared):
    """How a policy is probed, and from which shares on which curriculum is recommended (upaya/probe.py)."""

    questions: int = Field(gt=0)
    samples: int = Field(gt=1, description="completions per question, drawn twice: to predict and to observe")
    group_sizes: list[int] = Field(min_length=1)
    strict: str = "strict"
    lenient: str = "lenient"
    enough_live: float = Field(gt=0, le=1, description="share of live groups from which a regime has enough to learn")
    top: int = Field(gt=0, description="a gold token outside the sampler's likeliest so many is out of reach")
    out_of_reach: float = Field(gt=0, le=1, description="share of such tokens from which on more pre-training is due")

    @model_validator(mode="after")
    def groups_fit(self) -> Self:
        if max(self.group_sizes) > self.samples:
            raise ValueError(f"a group of {max(self.group_sizes)} needs at least as many samples")
        return self


class Auto(Declared):
    """The curriculum `auto`: which policy is probed, and which is built when the probe says so."""

    probe: str
    start_strict: str
    start_lenient: str


class Curricula(Declared):
    """params/curricula.yaml."""

    seed: int = Field(ge=0)
    model: FileName
    launch: FileName | Launch = Field(default="one-process", description="a file under params/launch/, or the settings")
    questions: Selection
    sampling: SamplingParams
    warmup: Warmup
    grpo: Grpo
    evaluation: Evaluation
    probe: Probe
    auto: Auto
    compare: list[Name] = Field(default_factory=list, description="the policies that `make compare` puts side by side")
    policies: dict[Name, PolicyParams] = Field(min_length=1)

    def parent(self, policy: str) -> str | None:
        """The policy that this one starts from; base has none."""
        return {"base": None, "warmup": "base"}.get(policy) or (
            self.policies[policy].from_ if policy in self.policies else None
        )

    def ancestry(self, policy: str) -> list[str]:
        """The policy and its ancestors, base first. Raises UserError for an unknown policy."""
        if policy not in self.names:
            raise UserError(f"{CURRICULA}: no policy {policy!r}; {nearest(policy, self.names)}")
        line = [policy]
        while parent := self.parent(line[0]):
            line.insert(0, parent)
        return line

    @property
    def names(self) -> list[str]:
        return ["base", "warmup", *self.policies]

    def asked(self, policy: str) -> Selection:
        """The questions that a policy is trained on."""
        own = self.warmup.questions if policy == "warmup" else self.policies[policy].questions
        return own or self.questions


def load_curricula(regimes: RegimesFile, path: Path = CURRICULA) -> Curricula:
    """The declared curricula, with every reference in them checked: parents, regimes, policies, the model file."""
    curricula = load_yaml(path, Curricula)
    for name, policy in curricula.policies.items():
        need(regimes.regimes, policy.regime, f"{path}: key 'policies.{name}.regime'", "regime")
        for regime in regimes_in(policy.until) if policy.until else []:
            need(regimes.plain, regime, f"{path}: key 'policies.{name}.until'", "regime")
    need(regimes.plain, curricula.warmup.until.regime, f"{path}: key 'warmup.until.regime'", "regime")
    for key in ("strict", "lenient"):
        need(regimes.plain, getattr(curricula.probe, key), f"{path}: key 'probe.{key}'", "regime")
    need(("base", "warmup"), curricula.auto.probe, f"{path}: key 'auto.probe'", "policy to probe")
    for key in ("start_strict", "start_lenient"):
        need(curricula.names, getattr(curricula.auto, key), f"{path}: key 'auto.{key}'", "policy")
    for name in curricula.compare:
        need(curricula.policies, name, f"{path}: key 'compare'", "policy")
    for name, policy in curricula.policies.items():
        if name in RESERVED:
            raise UserError(
                f"{path}: key 'policies.{name}': this name is taken ({', '.join(RESERVED)}); choose another"
            )
        parents = [known for known in curricula.names if known != "base"]
        if policy.from_ not in parents:
            raise UserError(
                f"{path}: key 'policies.{name}.from': unknown parent policy {policy.from_!r}; "
                f"{nearest(policy.from_, parents)}"
            )
        line = [name]
        while (parent := curricula.parent(line[-1])) and parent != "warmup":
            if parent in line:
                raise UserError(f"{path}: key 'policies': a cycle of parents: {' → '.join([*line, parent])}")
            line.append(parent)
    _need_shares(curricula, load_model_file(curricula.model), load_launch(curricula.launch), path)
    return curricula


def _need_shares(curricula: Curricula, model: ModelFile, launch: Launch, path: Path) -> None:
    """Raises UserError where the processes cannot share out a batch, or ZeRO cannot do what is asked of it."""
    batches = {
        "grpo.prompts": curricula.grpo.prompts,
        "warmup.batch_size": curricula.warmup.batch_size,
        "warmup.until.questions": curricula.warmup.until.questions,
    }
    for key, size in batches.items():
        if size < launch.processes:
            raise UserError(
                f"{path}: key '{key}': {launch.processes} processes cannot share out {size}; raise it to at least "
                f"{launch.processes}, or lower launch.processes"
            )
    if model.pretraining and model.pretraining.batch_size < launch.processes:
        raise UserError(
            f"{model_file(curricula.model)}: key 'pretraining.batch_size': {launch.processes} processes cannot share "
            f"out {model.pretraining.batch_size} windows; raise it, or lower launch.processes"
        )
    if launch.zero and curricula.grpo.compile:
        raise UserError(
            f"{path}: key 'grpo.compile': compiled layers and ZeRO do not go together; turn one of them off"
        )
    if launch.zero and curricula.grpo.precision == "bfloat16":
        raise UserError(
            f"{path}: key 'grpo.precision': under ZeRO it is the model that is in bfloat16: take this key out and "
            f"write `dtype: bfloat16` in {model_file(curricula.model)}"
        )


def load_launch(launch: str | Launch) -> Launch:
    """The settings of a launch. Raises UserError for an unknown name."""
    if isinstance(launch, Launch):
        return launch
    path = LAUNCHES / f"{launch}.yaml"
    if not path.is_file():
        known = [file.stem for file in LAUNCHES.glob("*.yaml")]
        raise UserError(f"{CURRICULA}: key 'launch': no file {path}; {nearest(launch, known)}")
    return load_yaml(path, Launch)


def need(known: Iterable[str], name: str, where: str, what: str) -> None:
    """Raises UserError with the nearest name where this one is unknown."""
    names = list(known)
    if name not in names:
        raise UserError(f"{where}: unknown {what} {name!r}; {nearest(name, names)}")


def model_file(name: str) -> Path:
    """The file that declares a model. Raises UserError where there is none of that name."""
    path = MODELS / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in MODELS.glob("*.yaml")]
        raise UserError(f"{CURRICULA}: key 'model': no file {path}; {nearest(name, known)}")
    return path


def load_model_file(name: str) -> ModelFile:
    return load_yaml(model_file(name), ModelFile)
