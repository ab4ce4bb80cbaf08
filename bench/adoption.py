"""Somebody's file, two commands, a table: does the lenient stage pay there?

python -m bench.adoption                                # all cases, in clones of this checkout's last commit
python -m bench.adoption sums gcd --seed 1 --seed 2     # some, each with several seeds of the curriculum

The first three files are reasoning-gym's questions: `pip install reasoning-gym` first, or name other cases. For each
case: `upaya adopt FILE` (and `upaya adopt --model FOLDER`), what `make run` does, and then the arm that is strict from
the start, which has as many steps. One seed is a lead, no finding; of several the means are shown at the end.
"""

import csv
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

ARMS = ("lenient-strict", "strict-only")
POLICIES = ("warmup", "lenient", *ARMS)
SEED = 7  # of files and models


def gym(task: str, size: int, **config: Any) -> Callable[[Path], Path]:
    """A file of a reasoning-gym task's questions, without those that come twice."""

    def write(folder: Path) -> Path:
        import reasoning_gym

        made = reasoning_gym.create_dataset(task, size=size, seed=SEED, **config)
        answers = {entry["question"]: entry["answer"] for entry in made}
        lines = [json.dumps({"question": question, "answer": answer}) for question, answer in answers.items()]
        path = folder / f"{task}.jsonl"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def largest(folder: Path) -> Path:
    """A quiz as a spreadsheet holds it: a column for each alternative, the letter of the right one."""
    draw = random.Random(SEED)
    with (folder / "largest.csv").open("w", newline="") as file:
        sheet = csv.writer(file)
        sheet.writerow(["Question", "A", "B", "C", "D", "Correct"])
        for _ in range(3000):
            numbers = draw.sample(range(1, 60), 4)
            sheet.writerow(["Which number is the largest?", *numbers, "ABCD"[numbers.index(max(numbers))]])
    return folder / "largest.csv"


def apples(draw: random.Random) -> tuple[str, int, str]:
    """A word problem, its answer, its solution in words that end in the answer's box."""
    name, (a, b) = draw.choice(["Ann", "Bob", "Eve", "Tom"]), (draw.randint(2, 15), draw.randint(2, 15))
    if draw.random() < 0.5 and a > b:
        return f"{name} has {a} apples and eats {b}. How many are left?", a - b, f"{a} - {b} = \\boxed{{{a - b}}}"
    return f"{name} has {a} apples and buys {b}. How many are there?", a + b, f"{a} + {b} = \\boxed{{{a + b}}}"


def boxed(folder: Path) -> Path:
    """A parquet file as the datasets library writes them, with worked solutions."""
    draw = random.Random(SEED)
    made = {problem: solution for problem, _, solution in (apples(draw) for _ in range(3000))}
    pq.write_table(pa.table({"problem": list(made), "solution": list(made.values())}), folder / "apples.parquet")
    return folder / "apples.parquet"


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m['role'] }}<|end|>\n\n{{ m['content'] }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
SHAPE = {
    "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 1024, "initializer_range": 0.05, "tie_word_embeddings": True,
}  # fmt: skip


def roughly(draw: random.Random) -> list[dict[str, str]]:
    """What the model has read: such problems, answered by somebody who is often off by some."""
    problem, answer, _ = apples(draw)
    return [
        {"role": "user", "content": problem},
        {"role": "assistant", "content": str(max(0, answer + round(draw.gauss(0, 2))))},
    ]


def reader(model_type: str, template: str, special: list[str]) -> Callable[[Path], Path]:
    """A folder as save_pretrained leaves it, of a model with habits of its own: a template, answers without tags.

    Args:
        special: the token that pads, the one that begins a text, the one that ends a turn, others of the template.
    """

    def make(folder: Path) -> Path:
        torch.manual_seed(SEED)
        draw = random.Random(SEED + 1)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        texts = [message["content"] for _ in range(500) for message in roughly(draw)]
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )  # fmt: skip
        tokenizer.train_from_iterator(texts, trainer)
        pad, bos, end = special[:3]
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, bos_token=bos, eos_token=end)
        fast.chat_template = template
        ids = {"eos_token_id": fast.eos_token_id, "pad_token_id": fast.pad_token_id, "bos_token_id": fast.bos_token_id}
        config = AutoConfig.for_model(model_type, vocab_size=len(fast), **ids, **SHAPE)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for step in range(600):
            for group in optimiser.param_groups:
                group["lr"] = 3e-3 * (1 - step / 600)
            chats = [fast.apply_chat_template(roughly(draw), tokenize=False) for _ in range(32)]
            batch = fast(chats, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False)
            labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        model.generation_config = GenerationConfig(eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id)
        model.save_pretrained(folder / model_type)
        fast.save_pretrained(folder / model_type)
        return folder / model_type

    return make


@dataclass(frozen=True)
class Case:
    """Attributes: model: makes the folder of a model; without one it is the tiny one from scratch."""

    file: Callable[[Path], Path]
    model: Callable[[Path], Path] | None = None


CASES = {
    "sums": Case(gym("chain_sum", 4000, min_terms=2, max_terms=3, min_digits=1, max_digits=1)),
    "legs": Case(gym("leg_counting", 6000, min_animals=1, max_animals=2, max_instances=3)),
    "gcd": Case(gym("gcd", 4000, min_value=1, max_value=40)),
    "largest": Case(largest),
    "boxed": Case(boxed),
    "boxed, a Qwen2 shape": Case(boxed, reader("qwen2", CHATML, ["<|pad|>", "<|im_start|>", "<|im_end|>"])),
    "boxed, a Llama shape": Case(
        boxed, reader("llama", HEADERS, ["<|pad|>", "<|begin|>", "<|eot|>", "<|start|>", "<|end|>"])
    ),
}


class Found(NamedTuple):
    """Of one policy on the test questions. Attributes: greedy: strict accuracy. sampled: the same of one of several."""

    greedy: float
    sampled: float


def declare(project: Path, **values: int) -> None:
    """Other numbers under keys of params/curricula.yaml that stand there once."""
    path = project / "params/curricula.yaml"
    text = path.read_text()
    for key, value in values.items():
        text, count = re.subn(rf"\b{key}: \d+", f"{key}: {value}", text)
        assert count == 1, f"{key} stands {count} times in {path}"
    path.write_text(text)


def measured(name: str, project: Path, folder: Path) -> Iterator[str]:
    """Run a case in a clone; its commands, what they print and how long they take."""
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(project), os.environ.get("PYTHONPATH", "")])),
        "PREFECT_HOME": str(folder / "prefect"), "MLFLOW_TRACKING_URI": "", "COLUMNS": "100",
    }  # fmt: skip
    case = CASES[name]
    commands = [["upaya", "adopt", str(case.file(folder))]]
    if case.model:
        commands.insert(0, ["upaya", "adopt", "--model", str(case.model(folder))])
    commands += [[sys.executable, "-m", "flows.curriculum", arm] for arm in ARMS]
    for command in commands:
        begun = time.monotonic()
        done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)
        yield f"$ {' '.join(Path(word).name for word in command)}\n{done.stdout}{done.stderr[-2000:]}"
        yield f"({time.monotonic() - begun:.0f} s, exit code {done.returncode})"
        if done.returncode:
            raise SystemExit(f"{name}: the command above failed")


def found(project: Path) -> dict[str, Found]:
    """What came of it, by policy."""
    metrics = {name: json.loads((project / "results" / name / "metrics.json").read_text()) for name in POLICIES}
    return {name: Found(each["strict_accuracy"], each["pass_at_1"]) for name, each in metrics.items()}


def means(name: str, seeds: list[dict[str, Found]]) -> Iterator[str]:
    """Of a case over its seeds, and what lenient first is ahead by, seed by seed."""
    for how in Found._fields:
        for policy in POLICIES:
            each = [getattr(one[policy], how) for one in seeds]
            yield f"{name}: {policy}, {how}: {statistics.mean(each):.1%} ({', '.join(f'{one:.1%}' for one in each)})"
        ahead = [getattr(one[ARMS[0]], how) - getattr(one[ARMS[1]], how) for one in seeds]
        error = f" ± {statistics.stdev(ahead) / len(ahead) ** 0.5:.1%} (standard error)" if len(ahead) > 1 else ""
        yield f"{name}: {ARMS[0]} ahead of {ARMS[1]} by {statistics.mean(ahead):+.1%}{error}, {how}"


def main(
    names: Annotated[list[str] | None, typer.Argument(help=", ".join(CASES))] = None,
    seed: Annotated[list[int], typer.Option(help="of the curriculum")] = [1],  # noqa: B006 - typer's way
    threads: Annotated[int | None, typer.Option(help="other than declared")] = None,
) -> None:
    """Run cases, one after the other."""
    for name in names or CASES:
        seeds = []
        for one in seed:
            with tempfile.TemporaryDirectory(prefix="upaya-") as folder:
                project = Path(folder).resolve() / "project"
                subprocess.run(["git", "clone", "--quiet", ".", str(project)], check=True)
                (project / ".venv").symlink_to(Path(".venv").resolve())
                declare(project, seed=one, **({"threads": threads} if threads else {}))
                print(f"\n=== {name}, seed {one}", flush=True)
                for line in measured(name, project, Path(folder).resolve()):
                    print(line, flush=True)
                seeds.append(found(project))
        for line in means(name, seeds):
            print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
