"""reasoning-gym's own scorer as a component, for questions of a source of that type.

# params/regimes.yaml, in a regime's components:
components.reasoning_gym.score: {weight: 0.95}
"""

from functools import cache
from typing import Any

from upaya.corpus.answers import Completion
from upaya.corpus.questions import Question
from upaya.declared.questions import QuestionParams, ReasoningGymSource
from upaya.declared.validation import load_yaml
from upaya.paths import QUESTION_PARAMS


def score(completion: Completion, question: Question) -> float:
    """What the dataset that made the question gives for the answer, in [0, 1]; 0 without one, and for a question that
    none made: regimes are tried on typical ones when they are loaded.

    It is asked with the whole entry, for a quarter of its scorers look at more than question and answer. The entry is
    made again, from what the source declares: a question's id ends with its number.
    """
    if not completion.answer:
        return 0.0
    dataset = _dataset(question.kind)
    if dataset is None:
        return 0.0
    entry = dataset[int(question.id.rpartition("-")[2])]
    return min(1.0, max(0.0, float(dataset.score_answer(completion.answer, entry))))


@cache
def _dataset(source: str) -> Any:
    declared = load_yaml(QUESTION_PARAMS, QuestionParams).sources.get(source)
    if not isinstance(declared, ReasoningGymSource):
        return None
    import reasoning_gym

    return reasoning_gym.create_dataset(declared.dataset, size=declared.size, seed=declared.seed, **declared.config)
