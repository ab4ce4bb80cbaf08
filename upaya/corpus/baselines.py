"""Cheap baselines: how many test questions are right without the doctrine, so that what a policy earns can be held
against it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from upaya.corpus.answers import Answer, render
from upaya.corpus.matching import is_exact
from upaya.corpus.questions import Question
from upaya.records.baselines import Accuracies

MOST_FREQUENT = "most frequent answer"
EACH_PLACE = "most frequent of each gate"
MOST_ALIKE = "answer of the most alike question"
MOST_DIFFICULTIES = 8  # of a kind with more, all are taken together
TOO_WELL = 0.6
COMPARED = {"train": 512, "test": 128}  # questions of a group that are held against each other; evenly spread


def baselines(questions: Sequence[Question], shortcuts: Mapping[str, Mapping[str, Answer]]) -> Accuracies:
    """Of every group that has questions to train and to test with: a kind, or a kind at one of its difficulties. What a
    baseline must learn, it learns on the training split.

    Args:
        shortcuts: question id → rule → the answer that the rule gives.
    """
    difficulties: dict[str, set[int]] = defaultdict(set)
    for question in questions:
        difficulties[question.kind].add(question.difficulty)
    groups: dict[tuple[str, int], dict[str, list[Question]]] = defaultdict(lambda: defaultdict(list))
    for question in questions:
        several = 1 < len(difficulties[question.kind]) <= MOST_DIFFICULTIES
        groups[question.kind, question.difficulty if several else 0][question.split].append(question)
    return {
        f"{kind}, difficulty {difficulty}" if difficulty else kind: _of_group(
            splits["train"], splits["test"], shortcuts
        )
        for (kind, difficulty), splits in sorted(groups.items())
        if splits["train"] and splits["test"]
    }


def cheaply_right(accuracies: Accuracies) -> list[str]:
    """In words, the groups that a baseline answers too well for their accuracy to say much."""
    said = []
    for group, of_group in accuracies.items():
        best, accuracy = max(of_group.items(), key=lambda pair: pair[1])
        if accuracy > TOO_WELL:
            said.append(f"{group}: '{best}' answers {accuracy:.0%} of the test questions")
    return said


def _of_group(
    train: Sequence[Question], test: Sequence[Question], shortcuts: Mapping[str, Mapping[str, Answer]]
) -> dict[str, float]:
    frequent = _most_frequent(render(question.answer) for question in train)
    accuracies = {MOST_FREQUENT: _accuracy([frequent] * len(test), test)}
    if all(question.skills for question in (*train, *test)):
        accuracies[EACH_PLACE] = _accuracy(_by_place(train, test), test)
    compared = _spread(test, COMPARED["test"])
    accuracies[MOST_ALIKE] = _accuracy(_by_likeness(_spread(train, COMPARED["train"]), compared), compared)
    rules = dict.fromkeys(rule for question in test for rule in shortcuts.get(question.id, {}))
    for rule in rules:
        told = [shortcuts.get(question.id, {}).get(rule) for question in test]
        accuracies[rule] = _accuracy([frequent if one is None else render(one) for one in told], test)
    return accuracies


def _most_frequent(answers: Iterable[str]) -> str:
    """Ties fall by the text, so that the same questions always give the same answer."""
    return min(Counter(answers).items(), key=lambda pair: (-pair[1], pair[0]))[0]


def _accuracy(answers: Sequence[str], questions: Sequence[Question]) -> float:
    right = sum(is_exact(answer, question) for answer, question in zip(answers, questions, strict=True))
    return round(right / len(questions), 4)


def _by_place(train: Sequence[Question], test: Sequence[Question]) -> list[str]:
    """For each item the value that is most frequent where its gate is asked."""
    said: dict[str, list[str]] = defaultdict(list)
    for question in train:
        if isinstance(question.answer, list):
            for skill, item in zip(question.skills, question.answer, strict=True):
                said[skill].append(item)
    frequent = {skill: _most_frequent(items) for skill, items in said.items()}
    return [render([frequent.get(skill, "") for skill in question.skills]) for question in test]


def _by_likeness(train: Sequence[Question], test: Sequence[Question]) -> list[str]:
    """The answer to the training question that has the most pairs of neighbouring characters in common (Jaccard)."""
    pairs = [_pairs(question.prompt) for question in train]
    answers = []
    for question in test:
        own = _pairs(question.prompt)
        alike = max(range(len(train)), key=lambda place: len(own & pairs[place]) / (len(own | pairs[place]) or 1))
        answers.append(render(train[alike].answer))
    return answers


def _pairs(text: str) -> set[str]:
    return {text[place : place + 2] for place in range(len(text) - 1)}


def _spread(questions: Sequence[Question], most: int) -> Sequence[Question]:
    return questions[:: max(1, -(-len(questions) // most))]
