"""MLflow's runs made anew from policies/*/history.jsonl and results/*/metrics.json."""

from pathlib import Path

from upaya.files import read_json, read_jsonl
from upaya.records import read_history
from upaya.tracking.tracker import Tracker


def rebuild(policies: Path, results: Path) -> list[str]:
    """One run per policy and per evaluation found; returns their names."""
    done = []
    for folder in sorted(path.parent for path in policies.glob("*/policy.json")):
        origin = read_json(folder / "policy.json")
        tags = {"stage": folder.name, "rebuilt": "true"}
        tags |= {key: str(origin[key]) for key in ("regime", "parent") if origin.get(key)}
        params = {key: origin[key] for key in ("seed", "steps", "total_steps")}
        with Tracker(folder.name, params, tags) as tracker:
            for record in read_history(folder / "history.jsonl"):
                tracker.record(record)
        done.append(folder.name)
    for path in sorted(results.glob("*/metrics.json")):
        metrics = read_json(path)
        name = path.parent.name
        with Tracker(
            f"evaluate {name}", {}, {"stage": f"evaluate@{name}", "policy": name, "rebuilt": "true"}
        ) as tracker:
            tracker.metrics(metrics, metrics["total_steps"])
            samples = path.parent / "samples.jsonl"
            if samples.exists():
                tracker.table([row for _, row in read_jsonl(samples)][:200], "samples.json")
            if (path.parent / "curve.png").exists():
                tracker.figure(path.parent / "curve.png")
        done.append(f"evaluate {name}")
    return done
