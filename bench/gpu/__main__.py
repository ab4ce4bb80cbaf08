"""What this project does on one GPU: its tests, equality with the CPU, decoding, a GRPO step, memory, curricula.

    bench/gpu/run OUT                 # all parts
    bench/gpu/run OUT decode step     # some of them

Each part in a process of its own, with a limit; what it found stands in OUT/<part>.json as soon as it is done, what it
printed in OUT/<part>.log. Needs questions and policies/base. Models larger than the tiny one have random weights.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, cast

import torch
import typer
from transformers import AutoConfig, AutoModelForCausalLM

from bench.larger import SECONDS
from bench.performance import GROUP, QWEN25_3B, SMALL, Benched, matmul_rate
from upaya.corpus.questions import read
from upaya.declared.curricula import load_curricula
from upaya.declared.sampling import GREEDY, SamplingParams
from upaya.errors import UserError, shown_to_user
from upaya.files import read_json, write_json
from upaya.policy.device import device
from upaya.policy.model import Policy, load, silence_padding
from upaya.rewards.regimes import load_regimes
from upaya.sampling import decoding
from upaya.sampling.decoding import sample
from upaya.startup import start
from upaya.terminal import console
from upaya.training.completions.logprobs import completion_logprobs
from upaya.training.sft.from_scratch import from_config

BASE = Path("policies/base")
VOCABULARY = {"vocab_size": 151936}  # Qwen2.5's: the logits are a part of the work
LIMITS = {
    "machine": 60, "equality": 120, "decode": 120, "compiled": 400, "others": 240, "step": 240, "memory": 300,
    "tests": 240, "tiny": 300, "small": 500, "half_billion": 590,
}  # fmt: skip
# The suite's files whose tests compute with a model.
TESTS = ("sampling", "loss", "update", "grpo", "optimiser", "warmup", "models", "checkpoints", "credit", "schedules",
         "health", "gap")  # fmt: skip
BFLOAT16_PEAK = 989e12  # operations a second without sparsity that NVIDIA states for H100 SXM and H200


def prompts_of(count: int) -> tuple[Policy, list[list[int]]]:
    curricula = load_curricula(load_regimes())
    base = load(BASE)
    questions = read(Path("questions"), "train", curricula.questions)[:count]
    return base, [base.encode_prompt(question.prompt) for question in questions]


def random_policy(architecture: dict[str, Any], tokenizer: Any) -> Policy:
    """Random weights in bfloat16, made on the device."""
    settings = dict(architecture)
    config = AutoConfig.for_model(
        settings.pop("model_type"), **VOCABULARY, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, **settings,
    )  # fmt: skip
    torch.manual_seed(1)
    with torch.device(device()):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16)
    policy = Policy(model, tokenizer)
    silence_padding(policy)
    return policy


def timed(call: Callable[[], Any], times: int = 3) -> float:
    """Median seconds, the first call left out."""
    seconds = []
    for _ in range(times + 1):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        call()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])


def bandwidth() -> float:
    """Bytes a second of a copy on the device, read and written."""
    source = torch.randn(2**30, device=device(), dtype=torch.bfloat16)
    into = torch.empty_like(source)
    return 2 * source.numel() * 2 / timed(lambda: into.copy_(source), 9)


@contextmanager
def unrecorded() -> Iterator[None]:
    records, decoding.records = decoding.records, lambda device: False
    try:
        yield
    finally:
        decoding.records = records


# --- parts ------------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    return {
        "gpu": torch.cuda.get_device_name(), "memory_gb": torch.cuda.mem_get_info()[1] / 1e9,
        "torch": torch.__version__, "bandwidth": bandwidth(),
        "bfloat16_rate": matmul_rate(device(), torch.bfloat16, 1.0),
    }  # fmt: skip


def equality() -> dict[str, Any]:
    """The same model in float32 on the CPU and here: what is sampled, log-probabilities, gradients."""
    torch.backends.cuda.matmul.allow_tf32 = False
    base, prompts = prompts_of(16)
    here = from_config({**SMALL, "initializer_range": 0.1}, base.tokenizer, seed=1)
    there = Policy(AutoModelForCausalLM.from_config(here.model.config, attn_implementation="sdpa"), base.tokenizer)
    there.model.load_state_dict({key: value.cpu() for key, value in here.model.state_dict().items()})
    params = SamplingParams(max_new_tokens=96)
    settings: dict[str, Any] = {"seed": 1, "step": 0, "prompt_indices": range(len(prompts))}
    sides = {"gpu": here, "cpu": there}
    found = {name: sample(policy, prompts, GROUP, params, **settings) for name, policy in sides.items()}
    with unrecorded():
        eager = sample(here, prompts, GROUP, params, **settings)
        greedily_eager = sample(here, prompts, 1, GREEDY, **settings)
    greedily = sample(here, prompts, 1, GREEDY, **settings)
    same, model = 0, cast(Any, here.model)
    for prompt, tokens, length in zip(prompts, greedily.tokens_PGT[:, 0], greedily.lengths_PG[:, 0], strict=True):
        ids = torch.tensor([prompt], device=device())
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=GREEDY.max_new_tokens,
            pad_token_id=here.pad_id,
        )  # fmt: skip
        same += theirs[0, len(prompt) :].tolist() == tokens[:length].tolist()
    rollouts = found["cpu"]
    P, G, _ = rollouts.tokens_PGT.shape
    of_row = torch.arange(P).repeat_interleave(G)
    learnt: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, policy in sides.items():
        logprobs, _ = completion_logprobs(
            policy, prompts, of_row, rollouts.tokens_PGT.flatten(0, 1), rollouts.lengths_PG.flatten(), params
        )
        (logprobs * torch.linspace(-1, 1, len(logprobs))[:, None]).sum().backward()
        gradient = torch.cat([p.grad.flatten().cpu() for p in policy.model.parameters() if p.grad is not None])
        learnt[name] = (logprobs.detach(), gradient)
    (on_gpu, gradient_gpu), (on_cpu, gradient_cpu) = learnt["gpu"], learnt["cpu"]

    def equal(one: Any, other: Any) -> float:
        pairs = zip(one.tokens_PGT.flatten(0, 1).tolist(), other.tokens_PGT.flatten(0, 1).tolist(), strict=True)
        lengths = one.lengths_PG.flatten().tolist()
        return statistics.mean(a[:n] == b[:n] for (a, b), n in zip(pairs, lengths, strict=True))

    return {
        "completions": P * G,
        "completions_equal_to_the_cpus": equal(found["gpu"], rollouts),
        "recorded_equal_to_eager": equal(found["gpu"], eager),
        "greedy_recorded_equal_to_eager": equal(greedily, greedily_eager),
        "greedy_equal_to_generate": same / len(prompts),
        "logprobs_largest_difference": (on_gpu - on_cpu).abs().max().item(),
        "gradient_relative_difference": ((gradient_gpu - gradient_cpu).norm() / gradient_cpu.norm()).item(),
        "sampled_twice_equal": equal(found["gpu"], sample(here, prompts, GROUP, params, **settings)),
    }


def decoded() -> tuple[Policy, list[list[int]], int]:
    """Qwen2.5-3B's shape, prompts, and how many tokens follow each: no token that can be drawn ends a completion."""
    base, prompts = prompts_of(32)
    made = random_policy(QWEN25_3B, base.tokenizer)
    ends = [VOCABULARY["vocab_size"] - 1]
    made.model.generation_config.eos_token_id = ends
    policy = Benched(made.model, made.tokenizer)
    policy.ends = ends
    return policy, prompts, 256


def decode() -> dict[str, Any]:
    """Tokens a second of 32 × 8 completions of 256 tokens, Qwen2.5-3B's shape in bfloat16, and what bounds them."""
    policy, prompts, limit = decoded()
    rows = len(prompts) * GROUP
    params = SamplingParams(max_new_tokens=limit)
    config = policy.model.config
    settings: dict[str, Any] = {"seed": 1, "step": 0, "prompt_indices": range(len(prompts))}
    weights = sum(p.numel() for p in policy.model.parameters()) * 2
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = config.num_hidden_layers * 2 * config.num_key_value_heads * size * 2
    held = per_token * (rows * limit / 2 + sum(map(len, prompts)))
    operations = 2 * (weights / 2) * rows
    copied, rate = bandwidth(), matmul_rate(device(), torch.bfloat16, 1.0)
    found: dict[str, Any] = {
        "bytes_a_step": weights + held, "bandwidth": copied, "rate": rate,
        "bound_by_memory": rows / ((weights + held) / copied),
        "bound_by_both": rows / max((weights + held) / copied, operations / rate),
    }  # fmt: skip
    found["recorded"] = rows * limit / timed(lambda: sample(policy, prompts, GROUP, params, **settings), 2)
    with profiled() as table:
        sample(policy, prompts, GROUP, SamplingParams(max_new_tokens=24), **settings)
    found["kernels"] = table()
    return found


def compiled() -> dict[str, Any]:
    """The same tokens a second where a step is compiled before it is recorded, so that its small kernels become few."""
    policy, prompts, limit = decoded()
    settings: dict[str, Any] = {"seed": 1, "step": 0, "prompt_indices": range(len(prompts))}
    few, all_ = SamplingParams(max_new_tokens=64), SamplingParams(max_new_tokens=limit)
    plain = sample(policy, prompts, GROUP, few, **settings).tokens_PGT
    with compiled_steps():
        begun = time.perf_counter()
        first = sample(policy, prompts, GROUP, few, **settings).tokens_PGT
        found = {"first": time.perf_counter() - begun, "tokens_equal": (first == plain).float().mean().item()}
        print(json.dumps(found))
        seconds = timed(lambda: sample(policy, prompts, GROUP, all_, **settings), 2)
        found["recorded"] = len(prompts) * GROUP * limit / seconds
        print(json.dumps(found))
        with profiled() as table:
            sample(policy, prompts, GROUP, SamplingParams(max_new_tokens=24), **settings)
        return {**found, "kernels": table()}


@contextmanager
def compiled_steps() -> Iterator[None]:
    """A step is compiled when it is first taken with its rows and places, which must not be while it is recorded."""
    step, eagerly, captured = decoding._step, decoding._eagerly, decoding.captured
    decoding._step = torch.compile(step, dynamic=False, fullgraph=True)
    decoding._eagerly = nullcontext
    decoding.captured = lambda step, first: captured(step, True)
    try:
        yield
    finally:
        decoding._step, decoding._eagerly, decoding.captured = step, eagerly, captured


def others() -> dict[str, Any]:
    """The same tokens a second by our steps unrecorded, by `generate`, and by continuous batching."""
    policy, prompts, limit = decoded()
    model, rows = cast(Any, policy.model), len(prompts) * GROUP
    params, found = SamplingParams(max_new_tokens=limit), dict[str, Any]()
    settings: dict[str, Any] = {"seed": 1, "step": 0, "prompt_indices": range(len(prompts))}
    with unrecorded():
        found["eager"] = rows * limit / timed(lambda: sample(policy, prompts, GROUP, params, **settings), 1)
    print(json.dumps(found))
    longest = max(map(len, prompts))
    repeated = [prompt for prompt in prompts for _ in range(GROUP)]
    ids = torch.tensor([[policy.pad_id] * (longest - len(p)) + p for p in repeated], device=device())
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in repeated], device=device())
    asked = {"do_sample": True, "max_new_tokens": limit, "min_new_tokens": limit, "pad_token_id": policy.pad_id}
    with torch.no_grad():
        found["generate"] = rows * limit / timed(lambda: model.generate(ids, attention_mask=mask, **asked), 1)
    print(json.dumps(found))
    try:
        from transformers import GenerationConfig

        wanted = GenerationConfig(
            do_sample=True, max_new_tokens=limit, eos_token_id=VOCABULARY["vocab_size"] - 1, pad_token_id=policy.pad_id
        )
        found["continuous"] = rows * limit / timed(lambda: model.generate_batch(repeated, generation_config=wanted), 1)
    except Exception as error:  # what another library cannot do here is a result, and said
        found["continuous"] = f"{type(error).__name__}: {str(error)[:200]}"
    return found


@contextmanager
def profiled() -> Iterator[Callable[[], list[list[Any]]]]:
    """Yields what gives the kernels that took longest: name, calls, milliseconds."""
    kinds = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds) as profile:
        yield lambda: [
            [event.key[:90], event.count, event.self_device_time_total / 1e3]
            for event in sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)[:25]
        ]
        torch.cuda.synchronize()


def step() -> dict[str, Any]:
    """A GRPO step of 32 × 8 completions of 256 tokens on the 3 B shape, and TRL's."""
    base, prompts = prompts_of(32)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        policy = random_policy(QWEN25_3B, base.tokenizer)
        policy.save(folder / "model")
        del policy
        torch.cuda.empty_cache()
        shape = {
            "prompts": prompts, "group_size": GROUP, "max_new_tokens": 256, "min_p": 0.0,
            "eos_ids": [VOCABULARY["vocab_size"] - 1], "threads": 8, "gpu": True, "compile": False,
            "precision": "float32", "rewards": [[float(g % 2) for g in range(GROUP)] for _ in prompts],
            "tokens_per_micro_batch": 8192, "rows_per_pass": 16,
        }  # fmt: skip
        sides = {
            "ours": [sys.executable, "-m", "bench.performance", "--side", str(folder)],
            "trl": [sys.executable, "bench/trl/performance.py", str(folder)],
        }
        for name, command in sides.items():
            write_json(folder / "shape.json", {**shape, "steps": 3 if name == "ours" else 2})
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                found[name] = done.stderr[-1500:]
                continue
            said = json.loads(done.stdout.strip().splitlines()[-1])
            found[name] = {key: statistics.median(v[1:]) if isinstance(v, list) else v for key, v in said.items()}
            print(json.dumps(found))
    ours = found["ours"]
    if isinstance(ours, dict):
        operations = ours["floor"] * ours["rate"]
        found["update_of_measured_rate"] = 1 / ours["above_floor"]
        found["update_mfu"] = operations / ours["update"] / BFLOAT16_PEAK
        if isinstance(found["trl"], dict):
            found["times_trl"] = found["trl"]["step"] / ours["step"]
    return found


def memory() -> dict[str, Any]:
    """The stages of `python -m bench.gpu.memory`, one step of warm-up and of GRPO with their checkpoints: peak bytes,
    and the seconds after each, beside what `upaya plan` says. (All weights of 3 B: a checkpoint of 37 GB; see `step`.)
    """
    from bench.gpu.memory import declared, estimate

    found: dict[str, Any] = {}
    for name, kind in (("3b", "adapters"), ("0.5b", "all"), ("0.5b", "adapters")):
        model = f"qwen2.5-{name}-instruct"
        command = [sys.executable, "-m", "bench.gpu.memory", "--worker", kind, "--model", model]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
        said = json.loads(lines[-1].removeprefix("FOUND ")) if lines else done.stderr[-1000:]
        found[f"{name} {kind}"] = {"estimate": estimate(declared(model, kind == "adapters")).peak, "found": said}
        print(json.dumps(found))
    return found


def tests() -> dict[str, Any]:
    """The fast tests of what computes with a model: what the last line says, and which failed."""
    files = [f"tests/test_{name}.py" for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "8", "-p", "no:cacheprovider", "-m", "not training", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout[-30_000:], done.stderr[-2000:])
    failed = re.findall(r"^(?:FAILED|ERROR) (.+)$", done.stdout, flags=re.MULTILINE)
    return {"rc": done.returncode, "said": done.stdout.strip().rpartition("\n")[2], "failed": failed}


def curriculum(shape: str) -> dict[str, Any]:
    """A shape from nothing through the default curriculum (bench/larger.py), its time and accuracy."""
    with tempfile.TemporaryDirectory() as temporary:
        project = Path(temporary) / "project"
        command = [sys.executable, "-m", "bench.larger", shape, str(project)]
        code = subprocess.run(command, check=False).returncode
        seconds = project / SECONDS
        return {
            "rc": code, "seconds": read_json(seconds) if seconds.is_file() else None,
            "metrics": {file.parent.name: read_json(file) for file in sorted(project.glob("results/*/metrics.json"))},
        }  # fmt: skip


def tiny() -> dict[str, Any]:
    return curriculum("tiny")


def small() -> dict[str, Any]:
    return curriculum("25m")


def half_billion() -> dict[str, Any]:
    return curriculum("0.5b")


PARTS = {
    part.__name__: part
    for part in (machine, tests, equality, decode, compiled, others, step, memory, tiny, small, half_billion)
}


def main(
    out: Annotated[Path, typer.Argument(help="folder for what is found")],
    parts: Annotated[list[str] | None, typer.Argument(help=f"of {', '.join(PARTS)}; all where none is given")] = None,
    alone: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Measure on a GPU."""
    with shown_to_user():
        if not torch.cuda.is_available():
            raise UserError("there is no GPU here")
        unknown = set(parts or []) - set(PARTS)
        if unknown:
            raise UserError(f"no part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
        out.mkdir(parents=True, exist_ok=True)
        if alone:
            for part in parts or []:
                write_json(out / f"{part}.json", PARTS[part]())
            return
        for part in parts or PARTS:
            begun = time.perf_counter()
            with (out / f"{part}.log").open("w") as log:
                command = [sys.executable, "-m", "bench.gpu", str(out), part, "--alone"]
                try:
                    code: int | str = subprocess.run(
                        command, stdout=log, stderr=log, check=False, timeout=LIMITS[part], env=dict(os.environ)
                    ).returncode
                except subprocess.TimeoutExpired:
                    code = f"stopped after {LIMITS[part]} s"
            console.print(f"{part}: {time.perf_counter() - begun:.0f} s, ended with {code}")
            file = out / f"{part}.json"
            shown = file if file.exists() else out / f"{part}.log"
            console.print(shown.read_text()[-3000:], markup=False, soft_wrap=True)


if __name__ == "__main__":
    start()
    typer.run(main)
