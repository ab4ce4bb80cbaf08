"""The audit of reward regimes: does the reward rise toward right, and which hacks pay?

Every regime is scored on degenerate completions and on right answers with growing errors (upaya/rewards/specimens.py).
"""

import itertools
import os
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from upaya.corpus.answers import parse
from upaya.corpus.questions import Question, read
from upaya.declared.audit import AuditParams, Limits
from upaya.declared.curricula import load_curricula
from upaya.declared.regimes import Regime
from upaya.declared.validation import load_yaml
from upaya.errors import UserError, nearest
from upaya.files import replacing, write_json
from upaya.measuring.slope import Slope, flat_ones, lenient_ones, slopes
from upaya.paths import AUDIT, AUDIT_PARAMS, QUESTIONS
from upaya.records.baselines import Accuracies, accuracies_of
from upaya.rewards.components import component
from upaya.rewards.regimes import check, levels, load_regimes, reward_of_text
from upaya.rewards.specimens import TYPICAL, Kind, degenerate, perturbed
from upaya.terminal import console

BUCKETS = ("right", "to ¼ wrong", "to ½ wrong", "to ¾ wrong", "to all wrong")


@dataclass(frozen=True)
class Finding:
    """What one regime gives, in shares of its maximum (a punished completion's share is negative).

    Attributes:
        earned: degenerate completion → mean over the questions.
        by_distance: mean for each bucket of the share of errors, right first; over questions with list answers where
            there are any, for a scalar is right or wrong.
        rises: steps to one more error, over all questions, and how many of them raise the reward.
        levels: different rewards that a typical question's specimens earn.
        saturation: in words, where the regime declares it.
        payers: the degenerate completions that earn more than the regime's limit, in words.
    """

    regime: str
    earned: dict[str, float]
    by_distance: list[float]
    rises: tuple[int, int]
    levels: int
    saturation: str | None
    payers: list[str]


def audit(regimes: Mapping[str, Regime], questions: Sequence[Question], params: AuditParams) -> list[Finding]:
    """One finding for each regime."""
    for name in params.limits:
        if name not in regimes:
            raise UserError(f"{AUDIT_PARAMS}: key 'limits': unknown regime {name!r}; {nearest(name, regimes)}")
    return [
        _found(name, regime, questions, params.limits.get(name, params.default)) for name, regime in regimes.items()
    ]


def _found(name: str, regime: Regime, questions: Sequence[Question], limits: Limits) -> Finding:
    earned: dict[str, list[float]] = defaultdict(list)
    kinds: dict[str, Kind] = {}
    distances: list[list[float]] = [[] for _ in BUCKETS]
    lists = any(isinstance(question.answer, list) for question in questions)
    steps = rises = 0
    for place, question in enumerate(questions):
        others = [other for other in questions if other.kind == question.kind and other.id != question.id]
        for specimen in degenerate(question, others):
            kinds[specimen.name] = specimen.kind
            earned[specimen.name].append(reward_of_text(regime, specimen.text, question) / regime.maximum)
        sequence = perturbed(question, others, random.Random(place))
        scores = [reward_of_text(regime, text, question) / regime.maximum for _, text in sequence]
        most = max(errors for errors, _ in sequence) or 1
        counted = isinstance(question.answer, list) or not lists
        for (errors, _), value in zip(sequence, scores, strict=True) if counted else ():
            distances[-(-4 * errors // most)].append(value)  # quarters, rounded up; 0 errors stand alone
        steps += len(scores) - 1
        rises += sum(after > before + 1e-9 for before, after in itertools.pairwise(scores))
    means = {specimen: sum(values) / len(values) for specimen, values in earned.items()}
    payers = [
        f"'{specimen}' earns {share:.0%} of the maximum, at most {getattr(limits, kinds[specimen]):.0%} is declared"
        for specimen, share in means.items()
        if share > getattr(limits, kinds[specimen]) + 1e-9
    ]
    return Finding(
        regime=name,
        earned={specimen: round(share, 6) for specimen, share in means.items()},
        by_distance=[round(sum(values) / len(values), 6) if values else float("nan") for values in distances],
        rises=(rises, steps),
        levels=levels(regime),
        saturation=check(name, regime, str(AUDIT_PARAMS)),
        payers=payers,
    )


def rungs(regimes: Mapping[str, Regime], questions: Sequence[Question]) -> dict[str, dict[str, float]]:
    """What each component that is weighed by a regime pays for each degenerate completion: hack → component → mean over
    the questions."""
    names = sorted({name for regime in regimes.values() for name, part in regime.components.items() if part.weight})
    paid: dict[str, dict[str, list[float]]] = {}
    for question in questions:
        others = [other for other in questions if other.kind == question.kind and other.id != question.id]
        for specimen in degenerate(question, others):
            completion = parse(specimen.text, question.form)
            for name in names:
                value = component(name)(completion, question)
                paid.setdefault(specimen.name, {}).setdefault(name, []).append(value)
    return {
        hack: {name: round(sum(values) / len(values), 6) for name, values in by_name.items()}
        for hack, by_name in paid.items()
    }


def show_rungs(paid: Mapping[str, Mapping[str, float]]) -> None:
    """Print what each rung pays."""
    table = Table(title="what each component pays for them, from 0 to 1")
    table.add_column("completion")
    for name in next(iter(paid.values())):
        table.add_column(name, justify="right")
    for hack, by_name in paid.items():
        table.add_row(hack, *(f"{value:.2f}" for value in by_name.values()))
    console.print(table, soft_wrap=False)


def show_slopes(found: Sequence[Slope]) -> None:
    """Print how many rewards each regime knows for wrong answers, by kind."""
    table = Table(title="different rewards for wrong answers in the right form, by kind of question")
    table.add_column("kind")
    table.add_column("answers")
    for regime in found[0].levels:
        table.add_column(regime, justify="right")
    for slope in found:
        table.add_row(slope.kind, ", ".join(slope.answer_types), *(f"{n:.0f}" for n in slope.levels.values()))
    console.print(table, soft_wrap=False)


def show_baselines(accuracies: Accuracies) -> None:
    """Print what is right without the doctrine, as convert computed it on the test questions."""
    table = Table(title="test questions that cheap baselines answer exactly")
    table.add_column("questions")
    rules = list(dict.fromkeys(rule for of_group in accuracies.values() for rule in of_group))
    for rule in rules:
        table.add_column(rule, justify="right")
    for group, of_group in accuracies.items():
        table.add_row(group, *(f"{of_group[rule]:.0%}" if rule in of_group else "" for rule in rules))
    console.print(table, soft_wrap=False)


def audited_questions(count: int) -> Sequence[Question]:
    """Validation questions of all kinds in equal parts; the built-in typical ones before any are made."""
    if not os.path.lexists(QUESTIONS / "validation.jsonl"):
        console.print(f"audit: no {QUESTIONS}/ yet, so typical questions are used; `dvc repro convert` makes real ones")
        return TYPICAL
    by_kind: dict[str, list[Question]] = defaultdict(list)
    for question in read(QUESTIONS, "validation"):
        by_kind[question.kind].append(question)
    each = max(2, count // len(by_kind))
    chosen: list[Question] = []
    for kind in sorted(by_kind):  # spread over each kind, for easy questions may stand before hard ones
        chosen += by_kind[kind][:: max(1, len(by_kind[kind]) // each)][:each]
    return chosen


def show(findings: Sequence[Finding], questions: int) -> None:
    """Print the findings."""
    rising = Table(title=f"the reward of lists on the way to right, in shares of the maximum ({questions} questions)")
    for column in ("regime", "levels", *BUCKETS, "one more error raises it"):
        rising.add_column(column, justify="left" if column == "regime" else "right")
    for finding in findings:
        shares = [f"{value:.2f}" for value in finding.by_distance]
        rises, steps = finding.rises
        rising.add_row(finding.regime, str(finding.levels), *shares, f"{rises} of {steps} times")
    console.print(rising, soft_wrap=False)
    hacks = Table(title="what degenerate completions earn, in shares of the maximum")
    hacks.add_column("completion")
    for finding in findings:
        hacks.add_column(finding.regime, justify="right")
    for specimen in findings[0].earned:
        hacks.add_row(specimen, *(f"{finding.earned[specimen]:.2f}" for finding in findings))
    console.print(hacks, soft_wrap=False)
    for finding in findings:
        if finding.saturation:
            console.print(finding.saturation)
        if finding.levels == 2:
            console.print(f"regime {finding.regime} knows two values only: its penalties change nothing, for the "
                          "group's mean cancels them")  # fmt: skip
        for payer in finding.payers:
            console.print(f"regime {finding.regime}: {payer}")


def draw(findings: Sequence[Finding], path: Path) -> None:
    """Reward by distance from right, and what each degenerate completion earns."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(11, 5), layout="constrained")
    distance, hacks = figure.subplots(1, 2)
    names = list(findings[0].earned)
    height = 0.8 / len(findings)
    for place, finding in enumerate(findings):
        distance.plot(range(len(BUCKETS)), finding.by_distance, marker="o", label=finding.regime)
        hacks.barh(
            [row + place * height for row in range(len(names))], [finding.earned[name] for name in names], height,
            label=finding.regime,
        )  # fmt: skip
    distance.set_xticks(range(len(BUCKETS)), BUCKETS, fontsize="small")
    distance.set_ylabel("reward, share of the maximum")
    distance.set_title("on the way to right")
    hacks.set_yticks([row + height * (len(findings) - 1) / 2 for row in range(len(names))], names, fontsize="small")
    hacks.invert_yaxis()
    hacks.axvline(0, color="black", linewidth=0.8)
    hacks.set_title("what degenerate completions earn")
    distance.legend(fontsize="small")
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=120, metadata={"Software": None})


def run() -> bool:
    """Audit the declared regimes, print and write what is found; whether no hack pays more than is declared."""
    declared = load_regimes()
    regimes = declared.plain
    params = load_yaml(AUDIT_PARAMS, AuditParams)
    questions = audited_questions(params.questions)
    findings = audit(regimes, questions, params)
    show(findings, len(questions))
    paid = rungs(regimes, questions)
    show_rungs(paid)
    sloped = slopes(regimes, questions)
    show_slopes(sloped)
    trained = {policy.regime for policy in load_curricula(declared).policies.values()}
    for line in flat_ones(sloped, [name for name in lenient_ones(regimes) if name in trained]):
        console.print(line)
    if os.path.lexists(QUESTIONS):
        show_baselines(accuracies_of(QUESTIONS))
    draw(findings, AUDIT / "audit.png")
    found = [vars(finding) for finding in findings]
    write_json(AUDIT / "audit.json", {"regimes": found, "components": paid, "slopes": [vars(each) for each in sloped]})
    console.print(f"audit: {AUDIT / 'audit.png'}, {AUDIT / 'audit.json'}")
    return not any(finding.payers for finding in findings)
