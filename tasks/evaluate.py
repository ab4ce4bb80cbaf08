"""evaluate: results/<policy>, what the policy can do on test questions that no training has seen.

metrics.json, samples.jsonl (completions with their scores under each regime), curve.csv (every step from the warm-up
on, for DVC's plots), curve.png (the same as a figure, with a line where the regime switched).

    python -m tasks.evaluate lenient-strict
"""

import sys
from typing import Any

from tasks.stage import POLICIES, QUESTIONS, RESULTS, provenance
from upaya.curves import Curve, draw
from upaya.errors import UserError, shown_to_user
from upaya.evaluation import evaluate, summary
from upaya.files import write_json, write_jsonl
from upaya.history import read_history
from upaya.params import load_curricula, load_model_file
from upaya.policy import load
from upaya.progress import console
from upaya.questions import read
from upaya.rewards.schedules import load_regimes
from upaya.tracking import Tracker


def main(name: str) -> None:
    regimes = load_regimes()
    curricula = load_curricula(regimes)
    line = curricula.ancestry(name)
    origin = provenance(name)
    questions = read(QUESTIONS, "test", curricula.questions)
    policy = load(POLICIES / name, load_model_file(curricula.model))
    params, seed = curricula.evaluation, curricula.seed
    with Tracker(f"evaluate {name}", params.model_dump(), {"stage": f"evaluate@{name}", "policy": name}) as tracker:
        found = evaluate(policy, questions, regimes.plain, params, curricula.sampling, curricula.grpo.group_size, seed)
        every = range(len(questions))
        kinds = sorted({question.kind for question in questions})
        wordings = {"trained": False, "held_out": True}
        metrics: dict[str, Any] = {
            "policy": name,
            **summary(found.measures, every, params.bootstrap, seed),
            "n_questions": len(questions),
            "seed": origin["seed"],
            "total_steps": origin["total_steps"],
            "generated_tokens": origin["generated_tokens"],
            "kinds": {
                kind: summary(found.measures, [i for i in every if questions[i].kind == kind], params.bootstrap, seed)
                for kind in kinds
            },
            "wordings": {
                key: summary(found.measures, chosen, params.bootstrap, seed)
                for key, held_out in wordings.items()
                if (chosen := [i for i in every if questions[i].held_out_phrasing == held_out])
            },
        }
        curve = Curve.of([read_history(POLICIES / policy / "history.jsonl") for policy in line[2:]])
        folder = RESULTS / name
        write_jsonl(folder / "samples.jsonl", found.samples)
        if curve.rows:
            curve.write_csv(folder / "curve.csv")
            draw({name: curve}, folder / "curve.png")
        write_json(folder / "metrics.json", metrics)
        tracker.metrics({key: value for key, value in metrics.items() if key != "policy"}, origin["total_steps"])
        tracker.table(found.samples[:200], "samples.json")
        if curve.rows:
            tracker.figure(folder / "curve.png")
    low, high = metrics["strict_accuracy_interval"]
    console.print(
        f"evaluate {name}: strict accuracy {metrics['strict_accuracy']:.1%} [{low:.1%}, {high:.1%}] "
        f"on {len(questions)} unseen questions, pass@8 {metrics.get('pass_at_8', float('nan')):.1%}"
    )


if __name__ == "__main__":
    with shown_to_user():
        if len(sys.argv) != 2:
            raise UserError("usage: python -m tasks.evaluate POLICY")
        main(sys.argv[1])
