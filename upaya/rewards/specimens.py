"""Completions made on purpose: degenerate ones that a policy could drift into, and right answers with growing errors.

Regimes are checked on them when they are loaded, and `upaya audit` scores every regime on them.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from upaya.corpus.answers import (
    ANSWER,
    END_ANSWER,
    END_THINK,
    THINK,
    Answer,
    AnswerType,
    gold_completion,
    normalised,
    parse,
    render,
)
from upaya.corpus.matching import as_written, is_exact, right_number
from upaya.corpus.questions import Question
from upaya.rewards.items import JOIN

Kind = Literal["ignorant", "near"]


@dataclass(frozen=True)
class Specimen:
    """A degenerate completion: `ignorant` ones need not know the answer, `near` ones know it and break the form."""

    name: str
    kind: Kind
    text: str


def degenerate(question: Question, others: Sequence[Question]) -> list[Specimen]:
    """What a policy could drift into instead of answering; none of these is exactly right.

    Args:
        others: further questions; their answers are where a policy that knows nothing takes its items from.
    """
    gold, right, tags = question.gold, render(question.answer), question.form == "tags"
    write = _writer(question)
    known = Counter(item for other in others if other.id != question.id for item in said_items(other.answer))
    items = said_items(question.answer)
    # Commonest first; ties fall by the text, so that the same questions always give the same specimens.
    every = [item for item, _ in sorted(known.items(), key=lambda pair: (-pair[1], pair[0]))]
    common = every[: len(items)] or ["无"]
    wrong = [item for item in every if item not in items][: len(items)] or ["无"]
    opened = question.gold[: parse(question.gold, question.form).answer_at]
    specimens = [
        Specimen("empty", "ignorant", ""),
        Specimen("form only", "ignorant", write("")),
        Specimen("question copied", "ignorant", write(question.prompt)),
        Specimen("one item repeated", "ignorant", write(common[:1] * len(items))),
        Specimen("commonest items", "ignorant", write(common)),
        Specimen("every item listed", "ignorant", write(list(dict.fromkeys([*every, *items])))),
        Specimen("outside the form", "near", right),
        Specimen(
            "two answers", "near", f"{gold}{ANSWER}{render(wrong)}{END_ANSWER}" if tags else f"{gold}\n{write(wrong)}"
        ),
        Specimen("truncated", "near", opened + right),
        Specimen("over-long", "near", write([*items, *wrong], question.reasoning)),
        Specimen("Traditional script", "near", write(question.answer_traditional, question.reasoning)),
    ]
    if tags:
        specimens.append(Specimen("nested tags", "near", f"{THINK}{gold}{END_THINK}{ANSWER}{gold}{END_ANSWER}"))
    if question.choices:
        first, every = [choices[0] for choices in question.choices], [JOIN.join(c) for c in question.choices]
        specimens.append(Specimen("first alternatives", "ignorant", write(first)))
        specimens.append(Specimen("all alternatives", "ignorant", write(every)))
    if question.answer_type == "ordered_list":
        specimens.append(Specimen("wrong order", "near", write(items[::-1], question.reasoning)))
    return [specimen for specimen in specimens if not is_right(specimen.text, question)]


def _writer(question: Question) -> Callable[..., str]:
    """Writes completions in the question's form: (answer, reasoning="") → text."""
    return lambda answer, reasoning="": gold_completion(answer, reasoning, question.form)


def perturbed(question: Question, others: Sequence[Question], rng: random.Random) -> list[tuple[int, str]]:
    """Well-formed completions at growing distance from the right answer: (errors, text), 0 errors first.

    An error is a wrong item in a list's place, a step away from a number, a wrong character in a term, text, expression
    or JSON, the other boolean, another choice. Errors add up: those of one completion stay in the next.
    """
    completions, write = [(0, question.gold)], _writer(question)
    if isinstance(question.answer, list):
        known = {normalised(item) for item in (*question.answer, *chain.from_iterable(question.accepted))}
        pool = sorted(
            item for other in others for item in said_items(other.answer) if normalised(item) not in known
        ) or ["无"]
        answer = list(question.answer)
        for errors, place in enumerate(rng.sample(range(len(answer)), len(answer)), start=1):
            answer[place] = rng.choice(pool)
            completions.append((errors, write(list(answer), question.reasoning)))
    elif isinstance(question.answer, bool):
        completions.append((1, write(not question.answer, question.reasoning)))
    elif question.answer_type == "number":
        completions += [(n, write(text, question.reasoning)) for n, text in _steps_away(question)]
    elif question.answer_type == "choice":
        completions.append((1, write("B" if is_exact("A", question) else "A", question.reasoning)))
    else:
        assert isinstance(question.answer, str)
        characters = list(question.answer)
        for errors, place in enumerate(rng.sample(range(len(characters)), len(characters)), start=1):
            characters[place] = "某"
            completions.append((errors, write("".join(characters), question.reasoning)))
    return [completions[0], *((errors, text) for errors, text in completions[1:] if not is_right(text, question))]


def _steps_away(question: Question) -> list[tuple[int, str]]:
    """Numbers at growing distance, all beyond the tolerance: a step is 1, of no whole number half its size."""
    right = right_number(question)
    if right is None:
        return []
    step = 1 if isinstance(right, int) else abs(right) / 2
    within = math.floor(as_written(question.tolerance) / step)
    return [(n, str(right + (within + n) * step)) for n in range(1, 6)]


def is_right(text: str, question: Question) -> bool:
    completion = parse(text, question.form)
    return completion.well_formed and is_exact(completion.answer, question)


def said_items(answer: Answer) -> list[str]:
    """An answer's items; a scalar is one."""
    return answer if isinstance(answer, list) else [render(answer)]


def _typical(answer: Answer, traditional: Answer, answer_type: AnswerType, prompt: str) -> Question:
    return Question(
        id=f"typical-{answer_type}-{render(answer)}", kind="typical", split="validation", key=answer_type,
        source="俱舍论", prompt=prompt, answer=answer, answer_type=answer_type, reasoning="", prompt_traditional=prompt,
        answer_traditional=traditional,
    )  # fmt: skip


# One question of each type of answer: what a regime is checked on when it is loaded. None of `math`, for to compare an
# expression takes sympy, which not every stage should have to import; of it a regime sees what it sees of free text.
TYPICAL = [
    _typical(
        ["正见", "正思惟", "正语", "正业", "正命", "正精进", "正念", "正定"],
        ["正見", "正思惟", "正語", "正業", "正命", "正精進", "正念", "正定"],
        "ordered_list", "八圣道支为何？请依次列出。",
    ),
    _typical(
        ["眼界", "耳界", "鼻界", "舌界"], ["眼界", "耳界", "鼻界", "舌界"], "set", "四种色根为何？次序不拘。"
    ),
    _typical("第六意识", "第六意識", "term", "何识以法为境？"),
    _typical(18, 18, "number", "界有几种？"),
    _typical("3.14", "3.14", "number", "圆周率约为几？"),
    _typical(True, True, "boolean", "眼界是否有对？"),
    _typical("C", "C", "choice", "何识以法为境？A) 眼识 B) 耳识 C) 意识 D) 身识"),
    _typical("the sixth consciousness", "the sixth consciousness", "text", "何谓意识？以英文答。"),
    _typical('{"处": 12}', '{"處": 12}', "json", "处有几种？以 JSON 答。"),
]  # fmt: skip
