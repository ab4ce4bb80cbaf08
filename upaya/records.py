"""What a stage says of itself beside a policy's weights, as others read it: policy.json, history and rollouts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upaya.errors import UserError
from upaya.files import read_json, read_jsonl, sha256_file
from upaya.paths import POLICIES


def read_history(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in read_jsonl(path)]


def event_text(event: Mapping[str, Any]) -> str:
    """An event of a history in words: what happened at which step, and why."""
    value = f" (it was {event['value']:.3f})" if event["value"] is not None else ""
    why = f"{event['condition']}{value}"
    if event["event"] == "switch":
        return f"{event['from']} → {event['to']} at step {event['step']}: {why}"
    said = {"handover": "hands over", "alarm": "ALARM", "refill": "refill"}[event["event"]]
    return f"{said} at step {event['step']}: {why}"


def provenance(policy: str) -> dict[str, Any]:
    """policy.json of a built policy: its parent, regime, seed and steps, and what it was made from.

    Raises UserError where it is not built.
    """
    path = POLICIES / policy / "policy.json"
    if not path.exists():
        raise UserError(f"{path}: this policy is not built; `python -m flows.curriculum {policy}` builds it")
    origin: dict[str, Any] = read_json(path)
    return origin


def verified(policy: str) -> dict[str, Any]:
    """The same, of a policy whose weights are about to be used. Raises UserError too where their bytes are not what
    policy.json tells of."""
    origin = provenance(policy)
    for name, digest in origin["weights"].items():
        file = POLICIES / policy / name
        if not file.is_file() or sha256_file(file) != digest:
            raise UserError(
                f"{file} is not what {POLICIES / policy / 'policy.json'} tells of: it was changed, damaged or removed. "
                f"`dvc checkout --force policies/{policy}` brings it back where the cache has it; else remove "
                f"{POLICIES / policy} and build it again: `python -m flows.curriculum {policy}`"
            )
    return origin


def rollouts_of(policy: str) -> list[dict[str, Any]]:
    """The groups that were kept of a built policy's training; none where it was not trained by GRPO."""
    path = POLICIES / policy / "rollouts.jsonl"
    return read_history(path) if path.exists() else []


def history_of(policy: str) -> list[dict[str, Any]]:
    """The lines of a built policy's history."""
    return read_history(POLICIES / policy / "history.jsonl")


def line_of(policy: str) -> list[str]:
    """The policy and its ancestors, base first, as the built policies themselves say."""
    line = [policy]
    while parent := provenance(line[0])["parent"]:
        line.insert(0, parent)
    return line
