"""A built checkout in miniature, written by hand: the files that the stages write, each with the least it holds."""

import shutil
from pathlib import Path
from typing import Any

from conftest import ROOT

from upaya.files import sha256_file, write_json, write_jsonl, write_text

QUESTION = {
    "id": "q1", "kind": "element_values", "split": "test", "key": "k", "prompt": "？", "answer": ["一", "二"],
    "answer_type": "ordered_list", "reasoning": "", "source": "s", "difficulty": 12, "prompt_traditional": "？",
    "answer_traditional": ["一", "二"],
}  # fmt: skip
UNDER = {"reward": 0.5, "live": 0.5, "dead_all_wrong": 0.5, "dead_all_right": 0.0, "rewarded_wrong": None}
MEASURED = {
    "success": 0.5, "skills": {"一": 0.5}, "format_rate": 1.0, "dropped_mass": 0.0, "entropy": 0.5,
    "completion_length": 8.0, "truncated": 0.0, "regimes": {"lenient": UNDER, "strict": UNDER},
    "components": {"exact": {"mean": 0.5, "spread": 0.5}},
}  # fmt: skip
STEPS = 3  # of every policy
LINE = {"base": None, "warmup": "base", "lenient": "warmup", "lenient-strict": "lenient"}
REGIMES = {"lenient": "lenient", "lenient-strict": "strict"}


def step(number: int, regime: str) -> dict[str, Any]:
    curriculum = {"regime": 0.0, "weight": {regime: 1.0}}
    return {
        "step": number, "regime": regime, "curriculum": curriculum, **MEASURED, "trained": UNDER,
        "generated_tokens": 8 * number, "update": None,
    }  # fmt: skip


def group(number: int) -> dict[str, Any]:
    completion = {
        "text": "…", "answer": "一、三", "items": ["一", "三"], "hits": [True, False], "exact": False,
        "components": {"exact": 0.0}, "rewards": {"lenient": 0.5}, "tokens": 8, "finished": True,
        "advantages": {"whole": 0.0},
    }  # fmt: skip
    return {
        "step": number, "question": "q1", "prompt": "？", "right": ["一", "二"], "trained": "dead",
        "fates": {"lenient": "dead_all_wrong"}, "completions": [completion],
    }  # fmt: skip


def history(name: str, first: int) -> list[dict[str, Any]]:
    if name not in REGIMES:
        return [{"step": number, "loss": 1.0, "grad_norm": 1.0} for number in range(1, STEPS + 1)]
    steps = [step(number, REGIMES[name]) for number in range(first + 1, first + STEPS + 1)]
    why = {"condition": "steps ≥ 3", "value": 3.0}
    if name == "lenient":
        return [*steps, {"event": "handover", "step": first + STEPS, "regime": "lenient", **why}]
    return [{"event": "switch", "step": first, "from": "lenient", "to": "strict", **why}, *steps]


def throughput(name: str) -> list[dict[str, Any]]:
    first = STEPS * max(0, list(LINE).index(name) - 2)
    spent = {"seconds": {"update": 0.5, "rest": 0.25}, "tokens": {"update": 8}}
    return [{"step": number, **spent} for number in range(first + 1, first + STEPS + 1)]


def write_policy(name: str, folder: Path) -> None:
    first = STEPS * max(0, list(LINE).index(name) - 2)
    write_text(folder / "model.safetensors", name)
    write_text(folder / "config.json", "{}")
    write_jsonl(folder / "history.jsonl", history(name, first))
    of_grpo: dict[str, Any] = {}
    if name in REGIMES:
        write_jsonl(folder / "rollouts.jsonl", [group(first + 1), group(first + 2)])
        of_grpo = {
            "questions": {"kinds": ["element_values"], "difficulty": [12]}, "first_step": first, "handover": None,
            "measured_under": {},
        }  # fmt: skip
    hashes = {file.name: sha256_file(file) for file in folder.iterdir()}
    origin = {
        "name": name, "parent": LINE[name], "regime": REGIMES.get(name), "seed": 1, "steps": STEPS,
        "total_steps": first + STEPS if name in REGIMES else 0, "generated_tokens": 8, "processes": 1, "threads": 1,
        "params": {"policy": {"regime": "lenient"}, "reward": {}}, "made_from": {"code": "c"}, **of_grpo,
        "weights": {"model.safetensors": hashes.pop("model.safetensors")}, "files": hashes,
    }  # fmt: skip
    write_json(folder / "policy.json", origin)


def write_results(folder: Path, name: str) -> None:
    measures = {
        "strict_accuracy": 0.5, "strict_accuracy_interval": [0.4, 0.6], "pass_at_1": 0.5, "pass_at_8": 0.9,
        "format_rate": 1.0, "contrast": 0.5, "reward/strict": 0.5, "dead/strict": 0.5,
    }  # fmt: skip
    details = {
        "policy": name, **measures, "n_questions": 1, "seed": 1, "total_steps": STEPS, "generated_tokens": 8,
        "kinds": {"element_values": measures}, "skills": {"一": 0.5}, "wordings": {"trained": measures},
    }  # fmt: skip
    sample = {
        "id": "q1",
        "kind": "element_values",
        "prompt": "？",
        "gold": "…",
        "completion": "…",
        "reward/strict": 0.5,
    }
    write_json(folder / "details.json", details)
    write_jsonl(
        folder / "samples.jsonl", [{**sample, "decoding": how, "exact": False} for how in ("greedy", "sampled")]
    )
    rows = "".join(f"{n},{8 * n},lenient,0.5,0.5,,,0.5\n" for n in range(1, 2 * STEPS + 1))
    header = "step,generated_tokens,trained_on,success,entropy,switch,trained_rewarded_wrong,lenient_live\n"
    write_text(folder / "curve.csv", header + rows)


def write_all(project: Path) -> None:
    """Policies, evaluations and questions of one curriculum, and its params/."""
    shutil.copytree(ROOT / "params", project / "params")
    shutil.copytree(ROOT / "components", project / "components")
    for file in ("dvc.yaml", "data.dvc", "params/curricula.yaml"):
        shutil.copy(ROOT / file, project / file)
    for name in LINE:
        (project / "policies" / name).mkdir(parents=True)
        write_policy(name, project / "policies" / name)
        write_results(project / "results" / name, name)
        write_jsonl(project / f"reports/throughput/{name}.jsonl", throughput(name))
    for split in ("train", "validation", "test"):
        write_jsonl(project / f"questions/{split}.jsonl", [{**QUESTION, "id": f"q{n}", "split": split} for n in (1, 2)])
    write_json(project / "questions/report.json", {"baselines": {"of set": {"most frequent answer": 0.25}}})
    write_json(project / "reports/compare/arms.json", {"arms": [_compared()], "probe": []})


def _compared() -> dict[str, Any]:
    return {
        "arm": "lenient-strict", "strict_accuracy": 0.5, "strict_accuracy_interval": [0.4, 0.6], "seed": 1,
        "total_steps": 6, "generated_tokens": 8, "tokens_to_milestone": None, "rewarded_wrong": None,
        "end_entropy": 0.5, "end_success": 0.5, "switches": [], "behind_best": 0.0, "behind_best_interval": [0.0, 0.0],
    }  # fmt: skip
