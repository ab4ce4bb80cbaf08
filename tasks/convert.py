"""convert: data/ (Traditional) → questions/ (Simplified beside the original), split, with a report.

python -m tasks.convert
"""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from upaya.corpus import Corpus
from upaya.errors import shown_to_user
from upaya.files import replacing, write_json, write_jsonl, write_text
from upaya.questions import SPLITS, Question, QuestionParams, make, statements
from upaya.script import Converter
from upaya.validation import load_yaml

DATA = Path("data")
PARAMS = Path("params/questions.yaml")
OUT = Path("questions")


def main() -> None:
    params = load_yaml(PARAMS, QuestionParams)
    converter = Converter()
    corpus = Corpus(DATA)
    questions = make(corpus, params, converter)
    text = statements(corpus, converter, params.seed, params.statements)
    report = report_of(questions, converter)
    with replacing(OUT, within=Path()) as partial:
        partial.mkdir(parents=True)
        for split in SPLITS:
            write_jsonl(partial / f"{split}.jsonl", (q.model_dump() for q in questions if q.split == split))
        write_text(partial / "text.txt", "".join(line + "\n" for line in text))
        write_json(partial / "report.json", report)
    counts = report["questions"]
    total = {split: sum(kind.get(split, 0) for kind in counts.values()) for split in SPLITS}
    print(
        f"convert: {len(questions)} questions of {len(counts)} kinds "
        f"({', '.join(f'{split} {number}' for split, number in total.items())}); "
        f"{report['characters']} characters, {report['converted']} converted, "
        f"{report['ambiguous_on_the_way_back']} of these ambiguous on the way back"
    )


def report_of(questions: list[Question], converter: Converter) -> dict[str, Any]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    characters = converted = ambiguous = 0
    for question in questions:
        counts[question.kind][question.split] += 1
        characters += len(question.prompt_traditional)
        changed, unclear = converter.changes(question.prompt_traditional, question.prompt)
        converted, ambiguous = converted + changed, ambiguous + unclear
    return {
        "questions": {kind: dict(counts[kind]) for kind in sorted(counts)},
        "characters": characters,
        "converted": converted,
        "ambiguous_on_the_way_back": ambiguous,
    }


if __name__ == "__main__":
    with shown_to_user():
        main()
