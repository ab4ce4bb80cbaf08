"""evaluate: results/<policy>, what the policy can do on questions that no training has seen, those of the test split.

metrics.json, samples.jsonl (completions with their scores under each regime), curve.csv (every step from the warm-up
on, for DVC's plots), curve.png (the same as a figure, with a line where the regime switched).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from upaya.corpus.questions import Question, read
from upaya.declared.evaluation import Evaluation
from upaya.declared.model import load_model_file
from upaya.declared.regimes import Regime
from upaya.declared.sampling import SamplingParams
from upaya.declared.selection import Selection
from upaya.declared.validation import Declared, FileName, Name, load_keys
from upaya.files import write_json, write_jsonl
from upaya.measuring.curves import Curve, draw
from upaya.measuring.evaluation import Evaluated, evaluate, summary
from upaya.measuring.setting import Setting
from upaya.paths import CURRICULA, POLICIES, QUESTIONS, REGIMES, RESULTS
from upaya.policy.model import load
from upaya.records import history_of, line_of, provenance
from upaya.rewards.regimes import check_all
from upaya.terminal import console
from upaya.tracking.told import built
from upaya.tracking.tracker import tell


class Params(Declared):
    """Of params/curricula.yaml."""

    seed: int = Field(ge=0)
    model: FileName
    questions: Selection
    sampling: SamplingParams
    group_size: int = Field(gt=1)
    evaluation: Evaluation


class Regimes(Declared):
    """Of params/regimes.yaml."""

    measured: dict[Name, Regime]


def main(name: str) -> None:
    params = load_keys(CURRICULA, Params, group_size="grpo.group_size")
    regimes = load_keys(REGIMES, Regimes).measured
    check_all(regimes)
    origin = provenance(name)
    questions = read(QUESTIONS, params.evaluation.split, params.questions)
    policy = load(POLICIES / name, load_model_file(params.model))
    evaluated = evaluate(
        policy, questions, params.evaluation, Setting(regimes, params.sampling, params.group_size, params.seed)
    )
    metrics = metrics_of(name, origin, questions, evaluated, params)
    curve = Curve.of([history_of(policy) for policy in line_of(name)[2:]])
    folder = RESULTS / name
    write_jsonl(folder / "samples.jsonl", evaluated.samples)
    if curve.rows:
        curve.write_csv(folder / "curve.csv")
        draw({name: curve}, folder / "curve.png")
    write_json(folder / "metrics.json", metrics)
    tell(built(name))
    low, high = metrics["strict_accuracy_interval"]
    console.print(
        f"evaluate {name}: strict accuracy {metrics['strict_accuracy']:.1%} [{low:.1%}, {high:.1%}] "
        f"on {len(questions)} unseen questions, pass@8 {metrics.get('pass_at_8', float('nan')):.1%}"
    )


def metrics_of(
    name: str, origin: Mapping[str, Any], questions: Sequence[Question], evaluated: Evaluated, params: Params
) -> dict[str, Any]:
    """What metrics.json holds: each measure over all questions, by kind, and by whether training showed the wording."""

    def over(chosen: Sequence[int]) -> dict[str, Any]:
        return summary(evaluated.measures, chosen, params.evaluation.bootstrap, params.seed)

    every = range(len(questions))
    wordings = {
        key: [i for i in every if questions[i].held_out_phrasing == held_out]
        for key, held_out in {"trained": False, "held_out": True}.items()
    }
    return {
        "policy": name,
        **over(every),
        "n_questions": len(questions),
        "seed": origin["seed"],
        "total_steps": origin["total_steps"],
        "generated_tokens": origin["generated_tokens"],
        "kinds": {
            kind: over([i for i in every if questions[i].kind == kind])
            for kind in sorted({question.kind for question in questions})
        },
        "skills": {skill: round(success, 6) for skill, success in evaluated.skills.items()},
        "wordings": {key: over(chosen) for key, chosen in wordings.items() if chosen},
    }
