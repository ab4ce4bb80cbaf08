"""policy.json: what a policy was made from, and the hashes of what stands beside it."""

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from upaya.declared.selection import Selection
from upaya.declared.validation import Name, validated
from upaya.errors import UserError
from upaya.files import sha256_file
from upaya.paths import ORIGIN, POLICIES
from upaya.records.reading import Count, beside, damaged, flow, read_file, written

WEIGHTS = "*.safetensors"
START: dict[str, str | None] = {"base": None, "warmup": "base"}  # policy → parent; GRPO trains all that come after
OF_GRPO = ("questions", "first_step", "handover", "measured_under")  # keys of those

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@written
class Why(TypedDict):
    """Which condition made a policy hand over, and the value that it saw."""

    condition: str
    value: float


@beside
class Params(TypedDict):
    """What its stage took from params/. Those of GRPO have the policy's own keys, and its regime or schedule."""

    policy: NotRequired[dict[str, Any]]
    reward: NotRequired[dict[str, Any]]


@written
class Provenance(TypedDict):
    """What policy.json holds.

    Attributes:
        regime: the last that it was trained on; None before GRPO.
        steps: of its own. first_step, total_steps: of GRPO, those of its ancestors and all.
        handover: None where its steps were used up.
        made_from: what is hashed → hash.
        weights, files: file → SHA-256, of what is trained, and of what it is loaded with and its records.
    """

    name: str
    parent: Name | None
    model: NotRequired[str]
    source: NotRequired[str | None]
    regime: Name | None
    questions: NotRequired[Selection]
    seed: int
    steps: Count
    first_step: NotRequired[Count]
    total_steps: Count
    generated_tokens: Count
    parameters: NotRequired[int]
    handover: NotRequired[Why | None]
    measured_under: NotRequired[dict[str, str]]
    processes: int
    threads: int
    params: Params
    made_from: dict[str, str]
    weights: Annotated[dict[str, Sha256], Field(min_length=1)]
    files: dict[str, Sha256]


def provenance(policy: str) -> Provenance:
    """policy.json of a built policy. Raises UserError where it is not built, or the file is damaged."""
    path, maker = POLICIES / validated(Name, policy, "the policy") / ORIGIN, flow(policy)
    origin = read_file(path, Provenance, maker)
    if origin["name"] != policy:
        raise damaged(path, None, f"key 'name': it is {origin['name']!r} in the folder of {policy!r}", maker)
    if policy not in START and (missing := [key for key in OF_GRPO if key not in origin]):
        raise damaged(path, None, f"key {missing[0]!r} is missing", maker)
    taken = origin["first_step"] + origin["steps"] if "first_step" in origin else 0
    if origin["total_steps"] != taken:
        raise damaged(path, None, f"key 'total_steps': it is {origin['total_steps']}, and {taken} were taken", maker)
    if origin["parent"] != START.get(policy, origin["parent"] or "") or origin["parent"] == policy:
        raise damaged(path, None, f"key 'parent': it cannot be {origin['parent']!r}", maker)
    return origin


def verified(policy: str) -> Provenance:
    """The same, of a policy that is about to be used. Raises UserError too where the bytes of its weights, or of
    another of its files, are not those that policy.json tells of."""
    origin, folder = provenance(policy), POLICIES / policy
    told = {**origin["files"], **origin["weights"]}
    for name in sorted({*told, *(file.relative_to(folder).as_posix() for file in folder.rglob(WEIGHTS))}):
        need_as_told(policy, name, told.get(name))
    return origin


def need_as_told(policy: str, name: str, told: str | None) -> None:
    """Raises UserError where a file of a policy is not the one whose hash its policy.json tells."""
    folder = POLICIES / policy
    file = folder / name
    if not file.is_file() or sha256_file(file) != told:
        raise UserError(
            f"{file} is not what {folder / ORIGIN} tells of: it was changed, damaged or removed. "
            f"`dvc checkout --force {folder}` brings it back where the cache has it; else remove "
            f"{folder} and build it again: {flow(policy)}"
        )


def line_of(policy: str) -> list[str]:
    """The policy and its ancestors, base first, as the built policies themselves say. Raises UserError as `provenance`
    does, and where one is an ancestor of itself."""
    line = [policy]
    while parent := provenance(line[0])["parent"]:
        if parent in line:
            path = POLICIES / line[0] / ORIGIN
            raise damaged(path, None, f"key 'parent': {parent} is an ancestor of itself", flow(line[0]))
        line.insert(0, parent)
    return line
