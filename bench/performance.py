"""A GRPO step beside TRL's: the same weights, prompts, group size, completion budget, rewards and thread count.

    make bench                              # all shapes; needs the default curriculum (`make run`) for shape b
    python -m bench.performance a c         # some of them

Each side runs in a process and an environment of its own, in turns; medians over the steps of all its processes, the
first step of each left out. Beside them the arithmetic floor: the operations that the step needs, over the rate at
which this machine multiplies matrices. Prints a table in Markdown and writes reports/bench/performance.json.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from upaya.corpus.questions import read
from upaya.declared.curricula import load_curricula
from upaya.declared.grpo import Drop, Grpo
from upaya.declared.model import Handling
from upaya.declared.sampling import SamplingParams
from upaya.errors import UserError, shown_to_user
from upaya.files import read_json, write_json
from upaya.policy.model import Policy, compile_layers, load
from upaya.records.histories import history_of
from upaya.rewards.regimes import load_regimes
from upaya.sampling.decoding import sample
from upaya.startup import start
from upaya.terminal import console
from upaya.training.grpo.batch import Batch
from upaya.training.grpo.credit import Earned
from upaya.training.grpo.update import update
from upaya.training.sft.from_scratch import from_config
from upaya.training.steps.engine import Engine

TRL = Path(".venv-trl/bin/python")
QUIET = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore", "TOKENIZERS_PARALLELISM": "false"}
BASE, START, STRICT = Path("policies/base"), Path("policies/lenient"), Path("policies/lenient-strict")
QWEN2 = {"model_type": "qwen2", "max_position_embeddings": 1024, "tie_word_embeddings": True}
SMALL = {**QWEN2, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2}  # fmt: skip
LARGER = {**QWEN2, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8,
          "num_key_value_heads": 4}  # fmt: skip
QWEN25_3B = {**QWEN2, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
             "num_attention_heads": 16, "num_key_value_heads": 2}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """What one row of the table measures.

    Attributes:
        architecture: random weights in this shape; None for the policy at which the default curriculum turns strict.
        live: share of live groups.
        ends: tokens that end a completion: none of the vocabulary gives equal lengths, 12 of 1,540 with random
            weights lengths between 1 and the limit (geometric, 128 in the mean); None for the tokenizer's own.
        steps: per process, the first left out.
        gpu: in bfloat16 on a GPU; left out, saying so, where there is none.
    """

    title: str
    prompts: int
    max_new_tokens: int
    architecture: dict[str, Any] | None
    live: float | None = 1.0
    ends: int | None = 0
    steps: int = 8
    gpu: bool = False


SHAPES = {
    "a": Shape("all groups live, equal lengths", 32, 32, SMALL),
    "b": Shape("the curriculum's own groups and lengths", 32, 40, None, live=None, ends=None, steps=12),
    "c": Shape("unequal lengths, up to 512", 16, 512, SMALL, ends=12, steps=4),
    "d": Shape("25 M parameters, all live, equal lengths", 32, 32, LARGER, steps=3),
    "e": Shape("Qwen2.5-3B's shape, all live, equal lengths", 32, 256, QWEN25_3B, steps=4, gpu=True),
}
GROUP = 8


class Benched(Policy):
    """A policy whose completions end at given tokens only."""

    ends: list[int]

    @property
    def eos_ids(self) -> list[int]:
        return self.ends


def lay_down(shape: Shape, folder: Path, threads: int, options: dict[str, Any]) -> None:
    """The folder that both sides read: model/ and shape.json."""
    if not STRICT.exists():
        raise UserError(f"no {STRICT}: the bench takes its prompts and shape b from the default curriculum; `make run`")
    curricula = load_curricula(load_regimes())
    base = load(BASE)
    policy = from_config(shape.architecture, base.tokenizer, seed=1) if shape.architecture else load(START)
    (folder / "model").mkdir()
    policy.save(folder / "model")
    ends = policy.eos_ids
    if shape.ends is not None:
        ends = list(range(300, 300 + shape.ends)) or [-1]
    live = shape.live
    if live is None:
        records = [record for record in history_of(STRICT.name) if "event" not in record]
        live = statistics.mean(record["trained"]["live"] for record in records)
    is_live = [int(live * (p + 1)) > int(live * p) for p in range(shape.prompts)]
    questions = read(Path("questions"), "train", curricula.questions)[: shape.prompts]
    write_json(
        folder / "shape.json",
        {
            "prompts": [base.encode_prompt(question.prompt) for question in questions],
            "group_size": GROUP,
            "max_new_tokens": shape.max_new_tokens,
            "min_p": 0.0 if shape.architecture else curricula.sampling.min_p,
            "eos_ids": ends,
            "rewards": [[float(alive and g % 2) for g in range(GROUP)] for alive in is_live],
            "steps": shape.steps,
            "threads": threads,
            "gpu": shape.gpu,
            **options,
        },
    )


# --- our side ---------------------------------------------------------------------------------------------------------


def ours(folder: Path) -> None:
    """Steps as upaya.grpo.loop takes them, with the rewards given; prints one line of JSON as TRL's side does."""
    shape = read_json(folder / "shape.json")
    torch.set_num_threads(shape["threads"])
    loaded = load(folder / "model", Handling(dtype="bfloat16" if shape["gpu"] else "float32"))
    policy = Benched(loaded.model, loaded.tokenizer)
    policy.ends = shape["eos_ids"]
    engine = Engine(policy, learning_rate=1e-6, max_grad_norm=0.1)
    sampling = SamplingParams(max_new_tokens=shape["max_new_tokens"], min_p=shape["min_p"])
    grpo = Grpo(
        budget=1, prompts=len(shape["prompts"]), group_size=GROUP, max_grad_norm=0.1, checkpoint_every=1,
        tokens_per_micro_batch=shape.get("tokens_per_micro_batch", 4096), compile=shape["compile"],
        precision=shape["precision"],
    )  # fmt: skip
    if grpo.compile:
        compile_layers(policy.model)
    rewards_PG = torch.tensor(shape["rewards"], dtype=torch.float64)
    names = [str(p) for p in range(len(rewards_PG))]
    found: dict[str, list[float]] = {
        name: [] for name in ("step", "rollout", "update", "tokens", "rate", "floor", "above_floor")
    }
    before = resident()
    for step in range(shape["steps"]):
        # Beside each step: the machine's speed changes by the minute.
        rate = matmul_rate(policy.model.device, policy.model.dtype)
        start = time.perf_counter()
        rollouts = sample(
            policy, shape["prompts"], GROUP, sampling, seed=1, step=step, prompt_indices=range(len(names))
        )
        rollouts.texts(policy)
        sampled = time.perf_counter()
        batch = Batch(Drop(type="drop"))
        batch.add(rollouts, Earned.as_a_whole(rewards_PG), names)
        update(policy, engine, batch, grpo, sampling)
        if shape["gpu"]:
            torch.cuda.synchronize()
        ended = time.perf_counter()
        floor = 3 * forward_operations(policy, rollouts.prompts, rollouts.lengths_PG.tolist(), batch.live) / rate
        for name, value in {
            "step": ended - start, "rollout": sampled - start, "update": ended - sampled,
            "tokens": int(rollouts.lengths_PG.sum()), "rate": rate,
            "floor": floor, "above_floor": (ended - sampled) / floor,
        }.items():  # fmt: skip
            found[name].append(value)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if shape["gpu"]:
        before, peak = 0.0, torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps({**found, "peak_mb": peak, "before_mb": before}))


def forward_operations(
    policy: Policy, prompts: Sequence[Sequence[int]], lengths: Sequence[Sequence[int]], groups: Sequence[int]
) -> float:
    """Multiplications and additions of one forward pass over each prompt once and each completion's own tokens; logits
    of completion tokens only. A backward pass takes twice as many."""
    config = policy.model.config
    head = config.hidden_size * config.vocab_size
    linear = sum(p.numel() for name, p in policy.model.named_parameters() if p.dim() == 2 and "embed" not in name)
    linear -= 0 if config.tie_word_embeddings else head
    width = config.num_hidden_layers * config.hidden_size
    total = 0.0
    for group in groups:
        prompt = len(prompts[group])
        total += 2 * linear * prompt + 4 * width * prompt * prompt / 2
        for length in lengths[group]:
            total += 2 * (linear + head) * length + 4 * width * length * (prompt + length / 2)
    return total


def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Operations per second of matrix products on this machine, the median of some."""
    size = 1536 if device.type == "cpu" else 8192
    left, right = torch.randn(2, size, size, device=device, dtype=dtype)
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(times)


def resident() -> float:
    """MB that the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


# --- rollouts by transformers alone -----------------------------------------------------------------------------------


def baselines(folder: Path) -> None:
    """Seconds of a rollout by `generate` and by continuous batching, of the same model and prompts."""
    shape = read_json(folder / "shape.json")
    torch.set_num_threads(shape["threads"])
    policy = load(folder / "model", Handling(dtype="bfloat16" if shape["gpu"] else "float32"))
    model: Any = policy.model
    settings = {
        "do_sample": True, "max_new_tokens": shape["max_new_tokens"], "eos_token_id": shape["eos_ids"],
        "pad_token_id": policy.pad_id, "min_p": shape["min_p"] or None,
    }  # fmt: skip
    prompts = [prompt for prompt in shape["prompts"] for _ in range(GROUP)]
    longest = max(map(len, prompts))
    device = policy.model.device
    ids = torch.tensor([[policy.pad_id] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])

    def generate() -> None:
        model.generate(ids.to(device), attention_mask=mask.to(device), **settings)

    def continuous() -> None:
        from transformers import GenerationConfig

        model.generate_batch(prompts, generation_config=GenerationConfig(**settings))

    print(json.dumps({name: _timed(call) for name, call in (("generate", generate), ("continuous", continuous))}))


def _timed(call: Callable[[], None], times: int = 2) -> float | str:
    try:
        call()
        seconds = []
        for _ in range(times):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)
    except Exception as error:  # what another library cannot do here is a result, and said
        return f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"


# --- side by side -----------------------------------------------------------------------------------------------------


def measured(command: list[str]) -> dict[str, Any]:
    """The last line that a side prints."""
    found = subprocess.run(command, env={**os.environ, **QUIET}, capture_output=True, text=True, check=False)
    if found.returncode:
        raise UserError(f"{' '.join(command)} failed:\n{found.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(found.stdout.strip().splitlines()[-1])
    return result


def row(name: str, shape: Shape, threads: int, rounds: int, options: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lay_down(shape, folder, threads, options)
        sides: dict[str, list[dict[str, Any]]] = {"ours": [], "trl": []}
        for _ in range(rounds):
            sides["ours"].append(measured([sys.executable, "-m", "bench.performance", "--side", str(folder)]))
            sides["trl"].append(measured([str(TRL), "bench/trl/performance.py", str(folder)]))
        alone = measured([sys.executable, "-m", "bench.performance", "--baselines", str(folder)])
    return {"shape": name, "title": shape.title, **{side: _medians(runs) for side, runs in sides.items()}, **alone}


def _medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    found = {
        key: statistics.median(value for run in runs for value in run[key][1:])
        for key, values in runs[0].items()
        if isinstance(values, list)
    }
    found["peak_mb"] = max(run["peak_mb"] for run in runs)
    found["more_mb"] = max(run["peak_mb"] - run["before_mb"] for run in runs)
    return found


def main(
    shapes: Annotated[list[str] | None, typer.Argument(help="which of a, b, c, d; all where none is given")] = None,
    threads: int = 2,
    rounds: Annotated[int, typer.Option(help="processes of each side, in turns")] = 2,
    compiled: Annotated[bool, typer.Option("--compile", help="our updates with torch.compile")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="our updates in bfloat16")] = False,
    side: Annotated[Path | None, typer.Option(hidden=True)] = None,
    baselines_of: Annotated[Path | None, typer.Option("--baselines", hidden=True)] = None,
) -> None:
    """Measure a GRPO step beside TRL's."""
    with shown_to_user():
        if side:
            return ours(side)
        if baselines_of:
            return baselines(baselines_of)
        if not TRL.exists():
            raise UserError(f"no {TRL}: run `make bench`, which makes TRL's environment")
        rows, options = [], {"compile": compiled, "precision": "bfloat16" if bf16 else "float32"}
        for name in shapes or SHAPES:
            if SHAPES[name].gpu and not torch.cuda.is_available():
                console.print(f"shape {name}: {SHAPES[name].title}: NOT RUN, there is no GPU")
                continue
            console.print(f"shape {name}: {SHAPES[name].title} …")
            rows.append(row(name, SHAPES[name], threads, rounds, options))
            console.print(_line(rows[-1]))
        write_json(
            Path("reports/bench/performance.json"), {"threads": threads, "rounds": rounds, **options, "rows": rows}
        )
        console.print("\n".join([HEAD, *map(_line, rows)]))


HEAD = (
    "| shape | step: ours | TRL | **ratio** | rollout: ours | TRL | ratio | `generate` | continuous batching "
    "| update: ours | TRL | ratio | ours / floor | tokens/s: ours | TRL | memory: ours | TRL |\n" + "|---" * 17 + "|"
)


def _line(row: dict[str, Any]) -> str:
    """A row of the table: seconds, tokens a second over the whole step, and MB beyond what stood before the first."""
    ours, trl = row["ours"], row["trl"]

    def beside(key: str) -> list[str]:
        return [f"{ours[key]:.3f}", f"{trl[key]:.3f}", f"{trl[key] / ours[key]:.1f}×"]

    alone = [
        f"{row[name]:.3f} ({row[name] / ours['rollout']:.1f}×)" if isinstance(row[name], float) else "failed"
        for name in ("generate", "continuous")
    ]
    step = beside("step")
    cells = [f"{row['shape']}: {row['title']}", *step[:2], f"**{step[2]}**", *beside("rollout"), *alone]
    cells += [*beside("update"), f"{ours['above_floor']:.1f}×"]
    cells += [f"{side['tokens'] / side['step']:,.0f}" for side in (ours, trl)]
    cells += [f"{side['more_mb']:,.0f} MB" for side in (ours, trl)]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    start()
    typer.run(main)
