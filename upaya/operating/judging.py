"""Whether a model's answer to an exported question is right: what lm-evaluation-harness calls for each question.

Copied beside the tasks as it is, so it imports nothing of ours and reads only the columns of the data set. It knows
what upaya/corpus/matching.py knows of terms, lists, sets, booleans and whole numbers; of other types it compares the
text.
"""

import re
import unicodedata
from typing import Any

SEPARATORS = re.compile(r"[、，,;；\n]")


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """The metric of one question. Args: doc: a row of the data set. results: the filtered answer, alone in a list."""
    return {"exact_match": float(is_right(results[0], doc))}


def is_right(answer: str, doc: dict[str, Any]) -> bool:
    """Whether each item of the answer is the right one, or another form that is accepted for it."""
    listed = doc["answer_type"] in ("ordered_list", "set")
    said = [normalised(part) for part in (SEPARATORS.split(answer) if listed else [answer])]
    right = [normalised(item) for item in doc["items"]]
    forms = {
        normalised(form): item for item, others in zip(right, doc["accepted"], strict=True) for form in others
    }  # the right items themselves come last, so that no form takes the place of one
    forms |= {item: item for item in right}
    meant = [forms.get(item) for item in said]
    if None in meant:
        return False
    return sorted(meant) == sorted(right) if doc["answer_type"] == "set" else meant == right  # type: ignore[type-var]


def normalised(term: str) -> str:
    """One width of characters (NFKC), no white space, no closing full stop."""
    return "".join(unicodedata.normalize("NFKC", term).split()).strip("。.").lower()
