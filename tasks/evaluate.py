"""evaluate: results/<policy>, what the policy can do on questions that no training has seen, those of the test split.

metrics.json (the handful that decides, for DVC's tables), details.json (every measure, by kind, skill and wording),
samples.jsonl (completions with their scores under each regime), curve.csv (every step from the warm-up on, for DVC's
plots), curve.png (the same as a figure, with a line where the regime switched).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from upaya.corpus.questions import Question, Split, read
from upaya.declared.evaluation import Evaluation
from upaya.declared.model import load_model_file
from upaya.declared.regimes import Regime
from upaya.declared.sampling import SamplingParams
from upaya.declared.selection import Selection
from upaya.declared.validation import Declared, FileName, Name, Seed, load_keys
from upaya.errors import UserError, nearest
from upaya.files import need_writable, write_json, write_jsonl
from upaya.measuring.curves import Curve, draw
from upaya.measuring.evaluation import Evaluated, evaluate, summary
from upaya.measuring.setting import Setting
from upaya.paths import CURRICULA, POLICIES, QUESTIONS, REGIMES, RESULTS
from upaya.policy.model import load
from upaya.records.histories import histories_of
from upaya.records.policies import Provenance, verified
from upaya.rewards.regimes import check_all
from upaya.terminal import console
from upaya.tracking.told import built
from upaya.tracking.tracker import tell

LAST_STEPS = 10  # of training, whose share of exactly right completions stands in metrics.json


class Params(Declared):
    """Of params/curricula.yaml."""

    seed: Seed
    model: FileName
    questions: Selection
    sampling: SamplingParams
    group_size: int = Field(gt=1)
    evaluation: Evaluation

    @model_validator(mode="after")
    def besides_is_something_else(self) -> Self:
        if both := sorted({*self.evaluation.also} & {*self.questions.kinds}):
            raise ValueError(f"evaluation.also: {', '.join(both)} is evaluated already, as questions.kinds says")
        return self


class Regimes(Declared):
    """Of params/regimes.yaml."""

    measured: dict[Name, Regime]


def main(name: str) -> None:
    params = load_keys(CURRICULA, Params, group_size="grpo.group_size")
    regimes = load_keys(REGIMES, Regimes).measured
    check_all(regimes)
    origin = verified(name)
    need_writable(RESULTS / name)
    histories = histories_of(name)
    questions = read(QUESTIONS, params.evaluation.split, params.questions)
    policy = load(POLICIES / name, load_model_file(params.model))
    setting = Setting(regimes, params.sampling, params.group_size, params.seed)
    evaluated = evaluate(policy, questions, params.evaluation, setting)
    details = details_of(name, origin, questions, evaluated, params)
    if besides := questions_besides(params.evaluation):
        also = evaluate(policy, besides, params.evaluation, setting)
        details["also"] = by_kind(besides, also, params)
    curve = Curve.of(histories)
    folder = RESULTS / name
    write_jsonl(folder / "samples.jsonl", evaluated.samples)
    if curve.rows:
        curve.write_csv(folder / "curve.csv")
        draw({name: curve}, folder / "curve.png")
    write_json(folder / "details.json", details)
    write_json(folder / "metrics.json", deciding(details, [record for history in histories for record in history]))
    tell(built(name))
    low, high = details["strict_accuracy_interval"]
    console.print(
        f"evaluate {name}: strict accuracy {details['strict_accuracy']:.1%} [{low:.1%}, {high:.1%}] "
        f"on {len(questions)} unseen questions, pass@8 {details.get('pass_at_8', float('nan')):.1%}"
    )


def questions_besides(evaluation: Evaluation) -> list[Question]:
    """Those of the kinds under `also`, every one outside the training split; while something is chosen on validation
    questions, of these alone. Raises UserError where a kind has none."""
    splits: tuple[Split, ...] = ("validation", "test") if evaluation.split == "test" else ("validation",)
    everything = [question for split in splits for question in read(QUESTIONS, split)] if evaluation.also else []
    kinds = {question.kind for question in everything}
    for kind in evaluation.also:
        if kind not in kinds:
            raise UserError(
                f"{CURRICULA}: key 'evaluation.also': no question of kind {kind!r} outside training; "
                f"{nearest(kind, kinds)}"
            )
    return [question for question in everything if question.kind in evaluation.also]


def deciding(details: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What metrics.json holds: what fits a table of `dvc exp show`.

    Args:
        records: the history from the warm-up on.
    """
    low, high = details["strict_accuracy_interval"]
    steps = [record["success"] for record in records if "success" in record][-LAST_STEPS:]
    switches = [record["step"] for record in records if record.get("event") == "switch"]
    return {
        "strict_accuracy": details["strict_accuracy"],
        "strict_low": low,
        "strict_high": high,
        **{key: details[key] for key in ("pass_at_1", "pass_at_8", "format_rate") if key in details},
        **({"success_at_end": round(sum(steps) / len(steps), 6)} if steps else {}),
        **({"switch_step": switches[0]} if switches else {}),
        "generated_tokens": details["generated_tokens"],
        "seed": details["seed"],
    }


def details_of(
    name: str, origin: Provenance, questions: Sequence[Question], evaluated: Evaluated, params: Params
) -> dict[str, Any]:
    """What details.json holds: each measure over all questions, by kind, and by whether training showed the wording."""

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
        "kinds": by_kind(questions, evaluated, params, counted=False),
        "skills": {skill: round(success, 6) for skill, success in evaluated.skills.items()},
        "wordings": {key: over(chosen) for key, chosen in wordings.items() if chosen},
    }


def by_kind(
    questions: Sequence[Question], evaluated: Evaluated, params: Params, counted: bool = True
) -> dict[str, dict[str, Any]]:
    """Each measure for each kind. Args: counted: with the number of its questions."""
    summaries = {}
    for kind in sorted({question.kind for question in questions}):
        chosen = [i for i, question in enumerate(questions) if question.kind == kind]
        measures = summary(evaluated.measures, chosen, params.evaluation.bootstrap, params.seed)
        summaries[kind] = {"n_questions": len(chosen), **measures} if counted else {**measures}
    return summaries
