"""convert: the declared sources → questions/ (Simplified beside the original), split, with a report."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from upaya.corpus.baselines import baselines, cheaply_right
from upaya.corpus.gathering import gather
from upaya.corpus.questions import SPLITS, Question
from upaya.corpus.script import Converter
from upaya.corpus.sources.opened import opened
from upaya.declared.questions import QuestionParams
from upaya.declared.validation import load_yaml
from upaya.files import replacing, write_json, write_jsonl, write_text
from upaya.paths import DATA, QUESTION_PARAMS, QUESTIONS


def main() -> None:
    params = load_yaml(QUESTION_PARAMS, QuestionParams)
    converter = Converter()
    sources = {name: opened(name, source, DATA, params.seed) for name, source in params.sources.items()}
    gathered = gather(sources, params, converter)
    questions, text = gathered.questions, gathered.text
    cheap = baselines(questions, gathered.shortcuts)
    report = report_of(questions, converter) | {"baselines": cheap}
    with replacing(QUESTIONS, within=Path()) as partial:
        partial.mkdir(parents=True)
        for split in SPLITS:
            write_jsonl(partial / f"{split}.jsonl", (q.model_dump() for q in questions if q.split == split))
        write_text(partial / "text.txt", "".join(line + "\n" for line in text))
        write_json(partial / "report.json", report)
    for line in (*gathered.said, *cheaply_right(cheap)):
        print(f"convert: {line}")
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
