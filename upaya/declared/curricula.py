"""params/curricula.yaml as a whole: every section of it, and that they agree with each other."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from upaya.declared.evaluation import Evaluation
from upaya.declared.grpo import (
    Grpo,
    PolicyParams,
    is_on_validation,
    regimes_in,
)
from upaya.declared.launch import Launch, load_launch
from upaya.declared.model import ModelFile, load_model_file, model_file, need_watched
from upaya.declared.numerics import Numerics
from upaya.declared.probe import Probe
from upaya.declared.regimes import RegimesFile
from upaya.declared.sampling import SamplingParams
from upaya.declared.selection import Selection
from upaya.declared.validation import Declared, FileName, Name, Seed, load_yaml
from upaya.declared.warmup import Warmup
from upaya.errors import UserError, nearest
from upaya.paths import CURRICULA, REGIMES

MOST_TOKENS = 1_000_000_000  # drawn at once: each takes some thirty bytes beside the model
RESERVED = ("base", "warmup", "auto", "compare")


class Auto(Declared):
    """The curriculum `auto`: which policy is probed, and which is built when the probe says so."""

    probe: str
    start_strict: str
    start_lenient: str


class Curricula(Declared):
    """params/curricula.yaml."""

    seed: Seed
    model: FileName
    model_files: str = Field(description="the folder of a model given by `path`, for DVC to watch; else NO_FILES")
    numerics: Numerics
    launch: FileName = Field(description="a file under params/launch/")
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
    """The declared curricula, with every reference in them checked: parents, regimes, policies, model, launch.

    The stages take their values by `load_keys`, each its own keys; this is for who looks at the whole.
    """
    curricula = load_yaml(path, Curricula)
    _need_regimes(curricula, regimes, path)
    _need_policies(curricula, path)
    _need_ancestors(curricula, path)
    _need_optimisers(curricula, path)
    _need_validation(curricula, path)
    _need_room(curricula, path)
    model, launch = load_model_file(curricula.model), load_launch(curricula.launch)
    need_watched(curricula.model, model, curricula.model_files, path)
    need_launchable(curricula, model, launch, path)
    return curricula


def _need_regimes(curricula: Curricula, regimes: RegimesFile, path: Path) -> None:
    for name, policy in curricula.policies.items():
        need(regimes.regimes, policy.regime, f"{path}: key 'policies.{name}.regime'", "regime")
        for regime in regimes_in(policy.until) if policy.until else []:
            need_measured(regimes, regime, f"{path}: key 'policies.{name}.until'")
    need(regimes.plain, curricula.warmup.until.regime, f"{path}: key 'warmup.until.regime'", "regime")
    for key in ("strict", "lenient"):
        need_measured(regimes, getattr(curricula.probe, key), f"{path}: key 'probe.{key}'")


def _need_policies(curricula: Curricula, path: Path) -> None:
    need(("base", "warmup"), curricula.auto.probe, f"{path}: key 'auto.probe'", "policy to probe")
    for key in ("start_strict", "start_lenient"):
        need(curricula.names, getattr(curricula.auto, key), f"{path}: key 'auto.{key}'", "policy")
    for name in curricula.compare:
        need(curricula.policies, name, f"{path}: key 'compare'", "policy")


def _need_ancestors(curricula: Curricula, path: Path) -> None:
    parents = [known for known in curricula.names if known != "base"]
    for name, policy in curricula.policies.items():
        if name in RESERVED:
            raise UserError(
                f"{path}: key 'policies.{name}': this name is taken ({', '.join(RESERVED)}); choose another"
            )
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


def _need_optimisers(curricula: Curricula, path: Path) -> None:
    for name, policy in curricula.policies.items():
        parent = curricula.policies.get(policy.from_)
        if policy.optimiser == "inherited" and not (parent and parent.keep_optimiser):
            say = (
                f"give {policy.from_} `keep_optimiser: true`"
                if parent
                else "only policies under `policies` keep theirs"
            )
            raise UserError(
                f"{path}: key 'policies.{name}.optimiser': {policy.from_} keeps no optimiser's state; {say}"
            )


def _need_validation(curricula: Curricula, path: Path) -> None:
    for name, policy in curricula.policies.items():
        if is_on_validation(policy.until) and not curricula.grpo.validation:
            raise UserError(
                f"{path}: key 'policies.{name}.until': `on: validation` needs success on validation questions, which "
                "nothing measures; declare it, e.g. `validation: {every: 10, questions: 64}` under `grpo`, or take "
                "`on: training`"
            )


def _need_room(curricula: Curricula, path: Path) -> None:
    """Refuses by arithmetic what would ask a machine for more memory than any has."""
    grpo, until, probe = curricula.grpo, curricula.warmup.until, curricula.probe
    rows = {
        "grpo.prompts · grpo.group_size": grpo.prompts * grpo.group_size,
        "warmup.until.questions · warmup.until.samples": until.questions * until.samples,
        "probe.questions · probe.samples": probe.questions * probe.samples,
    }
    if grpo.validation:
        rows["grpo.validation.questions · grpo.validation.samples"] = (
            grpo.validation.questions * grpo.validation.samples
        )
    length = curricula.sampling.max_new_tokens
    for keys, count in (rows | {"evaluation.samples": curricula.evaluation.samples}).items():
        if count * length > MOST_TOKENS:
            raise UserError(
                f"{path}: {keys} · sampling.max_new_tokens are {count * length:,} tokens at once, more than "
                f"{MOST_TOKENS:,}: lower one of these keys"
            )


def need_launchable(curricula: Curricula, model: ModelFile, launch: Launch, path: Path = CURRICULA) -> None:
    """Raises UserError where the processes cannot share out a batch, or ZeRO cannot do what is asked of it."""
    grpo, warmup = curricula.grpo, curricula.warmup
    launch.need_shares(
        {
            "grpo.prompts": grpo.prompts,
            "warmup.batch_size": warmup.batch_size,
            "warmup.until.questions": warmup.until.questions,
            **({"grpo.validation.questions": grpo.validation.questions} if grpo.validation else {}),
        },
        path,
    )
    if model.pretraining:
        launch.need_shares({"pretraining.batch_size": model.pretraining.batch_size}, model_file(curricula.model))
    if launch.zero and grpo.compile:
        raise UserError(
            f"{path}: key 'grpo.compile': compiled layers and ZeRO do not go together; turn one of them off"
        )
    if launch.zero and grpo.precision == "bfloat16":
        raise UserError(
            f"{path}: key 'grpo.precision': under ZeRO it is the model that is in bfloat16: take this key out and "
            f"write `dtype: bfloat16` in {model_file(curricula.model)}"
        )


def need_measured(regimes: RegimesFile, name: str, where: str) -> None:
    """Raises UserError where a regime is unknown, or none that rollouts are scored under."""
    need(regimes.plain, name, where, "regime")
    if name not in regimes.measured:
        raise UserError(f"{where}: {name!r} has to stand under `measured` in {REGIMES}, as `{name}: *{name}`")


def need(known: Iterable[str], name: str, where: str, what: str) -> None:
    """Raises UserError with the nearest name where this one is unknown."""
    names = list(known)
    if name not in names:
        raise UserError(f"{where}: unknown {what} {name!r}; {nearest(name, names)}")
