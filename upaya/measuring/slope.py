"""Has a regime a slope on the questions at hand? How many rewards it knows for answers that are in form and wrong.

A lenient regime that knows one only is a strict one by another name: every wrong answer is as far from right as every
other, and lenient and strict have the same dead groups. Whether it is so depends on the questions: `positions` has a
slope for a list, and none for a number.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from upaya.corpus.answers import gold_completion, parse
from upaya.corpus.questions import Question
from upaya.declared.regimes import Regime
from upaya.rewards.components import COMPONENTS, component
from upaya.rewards.regimes import reward_of_text
from upaya.rewards.specimens import TYPICAL, is_right, perturbed

OTHERS = 24  # answers of other questions that are tried as wrong ones
QUESTIONS = 12  # of each kind
NO_SLOPE = ("format", "length", "script", "repetition")  # of the form, or no nearer to what is right


@dataclass(frozen=True)
class Slope:
    """Of one kind of questions.

    Attributes:
        levels: regime → different rewards for wrong answers in the right form, the mean over questions.
        components: those that would give more, best first, with as many levels each.
    """

    kind: str
    answer_types: list[str]
    levels: dict[str, float]
    components: dict[str, float]

    def flat(self, regime: str) -> bool:
        """Whether a regime tells wrong answers no more apart than strict does."""
        return self.levels[regime] < 2

    def cure(self) -> str:
        best = [f"{name} ({levels:.0f})" for name, levels in list(self.components.items())[:3]]
        if best:
            return f"components that tell them apart: {', '.join(best)} levels"
        return "no component here tells them apart: one of your own may know a step nearer to right (components/)"


def slopes(regimes: Mapping[str, Regime], questions: Sequence[Question]) -> list[Slope]:
    """One for each kind of questions."""
    by_kind: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_kind[question.kind].append(question)
    return [_slope(kind, regimes, of) for kind, of in sorted(by_kind.items())]


def _slope(kind: str, regimes: Mapping[str, Regime], questions: Sequence[Question]) -> Slope:
    asked = questions[:: max(1, len(questions) // QUESTIONS)][:QUESTIONS]
    tried = {question.id: wrong_answers(question, questions) for question in asked}

    def mean(counts: Iterable[int]) -> float:
        return round(sum(counts) / len(asked), 2)

    levels = {
        name: mean(len({round(reward_of_text(regime, text, q), 9) for text in tried[q.id]}) for q in asked)
        for name, regime in regimes.items()
    }
    of_components = {
        name: mean(len({round(component(name)(parse(text, q.form), q), 9) for text in tried[q.id]}) for q in asked)
        for name in COMPONENTS
        if name not in NO_SLOPE
    }
    better = {name: count for name, count in of_components.items() if count >= 2}
    return Slope(
        kind=kind,
        answer_types=sorted({question.answer_type for question in questions}),
        levels=levels,
        components=dict(sorted(better.items(), key=lambda item: (-item[1], item[0]))),
    )


def wrong_answers(question: Question, others: Sequence[Question]) -> list[str]:
    """Completions in the right form that are wrong: what others of the kind answer, and the right one with errors."""
    rng = random.Random(question.id)
    elsewhere = [other for other in others if other.id != question.id and type(other.answer) is type(question.answer)]
    texts = [
        gold_completion(other.answer, "", question.form) for other in rng.sample(elsewhere, min(OTHERS, len(elsewhere)))
    ]
    texts += [text for _, text in perturbed(question, elsewhere or others, rng)[1:]]
    return [text for text in dict.fromkeys(texts) if not is_right(text, question)]


def lenient_ones(regimes: Mapping[str, Regime]) -> list[str]:
    """The regimes that are made to tell wrong answers apart: those with a slope for some type of answer."""
    typical = [slope for question in TYPICAL for slope in slopes(regimes, [question])]
    return [name for name in regimes if not all(slope.flat(name) for slope in typical)]


def flat_ones(found: Sequence[Slope], lenient: Iterable[str]) -> list[str]:
    """In words, the kinds on which regimes that are made to have a slope have none. Args: lenient: those regimes."""
    said = []
    for slope in found:
        if flat := [regime for regime in lenient if slope.flat(regime)]:
            said.append(
                f"kind {slope.kind} ({', '.join(slope.answer_types)}): wrong answers are told no more apart under "
                f"{', '.join(flat)} than under strict, so that lenient first is strict from the start; {slope.cure()}"
            )
    return said
