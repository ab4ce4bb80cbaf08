"""Groups of a policy's training looked at: what was asked, what each completion said, what each regime says of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from upaya.corpus.answers import SEPARATOR
from upaya.errors import UserError
from upaya.paths import POLICIES, ROLLOUTS
from upaya.records.histories import rollouts_of
from upaya.records.policies import line_of
from upaya.terminal import console

IN_WORDS = {"live": "live", "dead_all_wrong": "dead: all wrong, one reward", "dead_all_right": "dead: all right"}


def show_groups(policy: str, step: int | None, dead: bool, question: str | None, most: int) -> None:
    """Print the kept groups of a policy and its ancestors that are asked for, the last `most` of them.

    Args:
        step: counted from the warm-up; None for all.
        dead: only groups that taught nothing under the reward trained on.
        question: its id; None for all.

    Raises:
        UserError: none was kept that is asked for; or the policy is not built.
    """
    kept = [group for name in line_of(policy) for group in rollouts_of(name)]
    if not kept:
        raise UserError(f"{policy}: no groups were kept; `grpo.keep` in params/curricula.yaml says which are")
    asked = [
        group
        for group in kept
        if step in (None, group["step"])
        and question in (None, group["question"])
        and not (dead and group["trained"] == "live")
    ]
    if not asked:
        file = POLICIES / policy / ROLLOUTS
        raise UserError(f"{policy}: {_nothing(kept, step, dead, question)} (in {file} and those of its ancestors)")
    for group in asked[-most:]:
        _show(group)
    if len(asked) > most:
        console.print(f"{len(asked) - most} more before these; --most shows them")


def _nothing(kept: Sequence[Mapping[str, Any]], step: int | None, dead: bool, question: str | None) -> str:
    """What was not found, and what there is instead."""
    steps = sorted({group["step"] for group in kept})
    if step is not None and step not in steps:
        near = min(steps, key=lambda each: abs(each - step))
        return f"nothing was kept of step {step}; the nearest is {near}, of steps {steps[0]} to {steps[-1]}"
    if question is not None and all(group["question"] != question for group in kept):
        often = sorted(
            {group["question"] for group in kept}, key=lambda each: -sum(g["question"] == each for g in kept)
        )
        return f"no group of question {question!r} was kept; most often {', '.join(often[:3])}"
    return "none of the groups kept is " + ("dead" if dead else "of this question in this step")


def _show(group: Mapping[str, Any]) -> None:
    console.print(f"\n[bold]step {group['step']}, {escape(group['question'])}[/bold]")
    console.print(escape(group["prompt"]))
    right = group["right"] if isinstance(group["right"], list) else [group["right"]]
    console.print(f"right: {escape(SEPARATOR.join(map(str, right)))}")
    met = "; ".join(f"{name} {IN_WORDS[fate]}" for name, fate in group["fates"].items())
    console.print(f"under the reward trained on {group['trained']}; {met}")
    table = Table()
    regimes = list(group["fates"])
    for column in ("completion", *regimes, "advantage"):
        table.add_column(column, overflow="fold", justify="left" if column == "completion" else "right")
    for completion in group["completions"]:
        rewards = [f"{completion['rewards'][name]:.2f}" for name in regimes]
        table.add_row(_coloured(completion), *rewards, _advantages(completion["advantages"]))
    console.print(table, soft_wrap=False)


def _coloured(completion: Mapping[str, Any]) -> str:
    """The items of an answer, right ones marked ✓ and green, wrong ones ✗ and red; what has no answer as it is."""
    if completion["exact"]:
        return f"[green]✓ {escape(completion['text'])}[/green]"
    if completion["answer"] is None:
        return f"[red]✗ no answer[/red] {escape(completion['text'])}"
    items = [
        f"[green]{escape(item)}[/green]" if hit else f"[red]✗{escape(item or '')}[/red]"
        for item, hit in zip(completion["items"], completion["hits"], strict=True)
    ]
    malformed = "" if completion["components"].get("format", 1.0) == 1 else "[red]✗ malformed[/red] "
    return malformed + SEPARATOR.join(items)


def _advantages(by_part: Mapping[str, float]) -> str:
    """The one of the whole; else that of the form, and the range over the items."""
    items = [value for name, value in by_part.items() if name.startswith("item")]
    said = [f"{name} {by_part[name]:+.2f}" for name in ("whole", "form") if name in by_part]
    if items:
        said.append(f"items {min(items):+.2f} to {max(items):+.2f}")
    return "\n".join(said)
