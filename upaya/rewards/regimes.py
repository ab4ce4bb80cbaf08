"""Reward regimes at work: declared weighted sums of components, with penalties where errors are punished.

A group of completions is compared with its own mean, so only differences between rewards count. A regime that knows two
values only gains nothing by a penalty: the mean cancels it. To punish, it needs a third level (malformed < wrong <
right), which also makes groups without any right completion tellable apart.
"""

import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from upaya.corpus.answers import TAGS, Completion, parse, render
from upaya.corpus.matching import is_exact, reading
from upaya.corpus.questions import Question
from upaya.declared.regimes import Regime, RegimesFile, names_in, read_regimes
from upaya.errors import UserError
from upaya.paths import REGIMES
from upaya.rewards.components import component, exact
from upaya.rewards.specimens import TYPICAL, degenerate, perturbed

# What a gold has to look like to be read, by the type of answer.
_ITEMS = "Give items that are not empty, without 、，,;； and line breaks, which stand between items"
_CURES = {
    "number": 'Write one number, "1234.5" or "1/3", without words other than its unit',
    "term": "Write at least one character that is no full stop",
    "ordered_list": _ITEMS,
    "set": _ITEMS,
    "boolean": "Write true or false",
    "choice": 'Write the letter alone, "B"',
    "text": "Write at least one word",
    "json": "Write one JSON value as a string, each key once",
    "math": "Write one expression, or make it an answer of type number or text",
}
_SHOWN = 10  # problems in one message


def reward(regime: Regime, values: Mapping[str, float], completion: Completion, question: Question) -> float:
    """The reward of one completion, from `floor` to `maximum`. Args: values: of the regime's components."""
    if exact(completion, question):
        return regime.maximum
    earned = 0.0
    for name, part in regime.components.items():
        earned += part.weight * min(1.0, values[name] / part.saturates_at)
    earned -= regime.penalties.wrong if completion.well_formed else regime.penalties.malformed
    if len(completion.answer or "") > regime.penalties.over_long_from * len(render(question.answer)):
        earned -= regime.penalties.over_long
    return max(regime.floor, earned)


def reward_of_text(regime: Regime, text: str, question: Question) -> float:
    """The reward of a completion's text; finite for any string."""
    completion = parse(text, question.form)
    return reward(
        regime, {name: component(name)(completion, question) for name in regime.components}, completion, question
    )


def ties(regime: Regime) -> list[str]:
    """Wrong completions that earn as much as a right one, in words, on a typical question of each answer type."""
    tied = []
    for question in TYPICAL:
        specimens = [(specimen.name, specimen.text) for specimen in degenerate(question, TYPICAL)]
        for errors, text in perturbed(question, TYPICAL, random.Random(0))[1:]:
            specimens.append((f"{errors} of {_size(question)} wrong", text))
        for name, text in specimens:
            if reward_of_text(regime, text, question) >= regime.maximum - 1e-9:
                tied.append(f"{question.answer_type.replace('_', ' ')}: {name}")
    return tied


def levels(regime: Regime) -> int:
    """How many different rewards the specimens of typical questions earn, the right answer's included."""
    rewards = {regime.maximum}
    for question in TYPICAL:
        texts = [specimen.text for specimen in degenerate(question, TYPICAL)]
        texts += [text for _, text in perturbed(question, TYPICAL, random.Random(0))]
        rewards |= {round(reward_of_text(regime, text, question), 9) for text in texts}
    return len(rewards)


def _size(question: Question) -> str:
    return f"{len(question.answer)} items" if isinstance(question.answer, list) else render(question.answer)


def check(name: str, regime: Regime, where: str) -> str | None:
    """Hold a regime to its promise that nothing wrong earns as much as what is right.

    Returns a sentence that says from where on it saturates, for a regime that declares saturation and does tie.

    Raises UserError where one ties without having declared it, or names a component that there is not.
    """
    for part in regime.components:
        try:
            component(part)
        except (ValueError, UserError) as error:
            raise UserError(f"{where}: key 'regimes.{name}.components': {error}") from None
    tied = ties(regime)
    if not tied:
        return None
    if regime.declares_saturation:
        return f"regime {name} saturates: as much as a right answer earns {_briefly(tied)}"
    raise UserError(
        f"{where}: key '{name}': a wrong completion earns as much as a right one ({_briefly(tied)}). Give weight to a "
        "component that tells them apart (exact, positions, format), or a penalty, or declare `saturates_at`."
    )


def check_all(regimes: Mapping[str, Regime], path: Path = REGIMES) -> list[str]:
    """`check` for each; the sentences of those that saturate."""
    return [said for name, regime in regimes.items() if (said := check(name, regime, str(path)))]


def _briefly(tied: list[str], most: int = 4) -> str:
    return "; ".join(tied[:most]) + (f"; and {len(tied) - most} more" if len(tied) > most else "")


def load_regimes(path: Path = REGIMES) -> RegimesFile:
    """The declared regimes and schedules, each regime held to its promise that nothing wrong earns as much as right."""
    file = read_regimes(path)
    check_all(file.plain, path)
    return file


def saturations(file: RegimesFile, name: str) -> list[str]:
    """From where on the regimes that a regime or schedule is made of saturate, in words."""
    declared = file.regimes[name]
    parts = [name] if isinstance(declared, Regime) else names_in(declared, file.measured, name)
    return check_all({part: file.plain[part] for part in parts})


def need_full_marks(questions: Iterable[Question], regimes: Mapping[str, Regime]) -> None:
    """Hold every question to this: its gold completion earns the maximum under every regime. A gold that is not read as
    right would teach that the right answer is wrong.

    Raises UserError with each question whose gold does not: its id and source, what was read, and the cure.
    """
    problems = [problem for question in questions if (problem := _problem(question, regimes))]
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise UserError("\n       ".join([*problems[:_SHOWN], *more]))


def _problem(question: Question, regimes: Mapping[str, Regime]) -> str | None:
    """What keeps a question's gold from full marks, for a person; None where nothing does."""
    completion = parse(question.gold, question.form)
    short = [
        f"{earned:g} of {regime.maximum:g} under {name}"
        for name, regime in regimes.items()
        if (earned := reward_of_text(regime, question.gold, question)) < regime.maximum - 1e-9
    ]
    if exact(completion, question) and not short:
        return None
    if question.form == "tags" and any(tag in question.reasoning + render(question.answer) for tag in TAGS):
        why = f"its form is not read as the right one. Take {', '.join(TAGS)} out of its reasoning and its answer."
    elif not is_exact(completion.answer, question):
        read = reading(completion.answer or "", question)
        told = "nothing" if read is None else repr(read)
        why = f"{completion.answer!r} is read as {told}. {_CURES[question.answer_type]}."
    else:
        why = "it is read as right; see the components of these regimes."
    return (
        f"question {question.id!r} ({question.source}): its own answer, of type {question.answer_type!r}, earns "
        f"{', '.join(short) or 'the maximum, though it is not right'}: {why}"
    )
