"""The console script `upaya`: look at what was built."""

from pathlib import Path

import typer

from upaya.errors import UserError, shown_to_user
from upaya.paths import POLICIES
from upaya.terminal import console

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)


@app.command()
def show(
    policy: str = typer.Argument("lenient-strict"),
    step: int | None = typer.Option(None, help="groups of this step, counted from the warm-up"),
    dead: bool = typer.Option(False, "--dead", help="only groups that taught nothing"),
    question: str | None = typer.Option(None, help="groups of this question, through the steps"),
    most: int = typer.Option(4, min=1, help="how many groups, the last ones"),
) -> None:
    """The table of a policy and its ancestors; with --step, --dead or --question groups of their training."""
    from upaya.measuring.groups import show_groups
    from upaya.measuring.report import show as show_table

    if step is None and question is None and not dead:
        show_table(policy)
    else:
        show_groups(policy, step, dead, question, most)


@app.command()
def ask(
    policy: str = typer.Argument(help="a policy's name, or a folder with a model"),
    question: str = typer.Argument(help="the question, in either script"),
    samples: int = typer.Option(0, help="sampled completions to show beside the greedy one"),
) -> None:
    """Ask a policy a question."""
    from upaya.startup import start_as_declared

    start_as_declared()
    from upaya.corpus.script import Converter
    from upaya.declared.curricula import load_curricula
    from upaya.declared.model import load_model_file
    from upaya.declared.sampling import GREEDY, SamplingParams
    from upaya.policy.model import load
    from upaya.rewards.regimes import load_regimes
    from upaya.sampling.decoding import sample

    folder = POLICIES / policy
    built = folder.is_dir()
    # One of ours is asked as it was trained: with its system prompt, in its precision.
    model = load(folder, load_model_file(load_curricula(load_regimes()).model)) if built else load(policy)
    prompt = [model.encode_prompt(Converter().simplify(question))]
    console.print(sample(model, prompt, 1, GREEDY, seed=0, step=0, prompt_indices=[0]).texts(model)[0][0], markup=False)
    if samples:
        drawn = sample(model, prompt, samples, SamplingParams(), seed=0, step=0, prompt_indices=[0])
        for text in drawn.texts(model)[0]:
            console.print(text, markup=False)


@app.command()
def audit() -> None:
    """Score every regime on hacks and near misses; exit code 1 where a hack earns more than params/audit.yaml says."""
    from upaya.measuring.audit import run

    if not run():
        raise UserError("a degenerate completion earns more than declared (above); see params/audit.yaml")


@app.command()
def probe(policy: str = typer.Argument(help="a policy's name, or a folder or hub name of a model")) -> None:
    """What a policy could learn from before any GRPO, and which curriculum that recommends."""
    from upaya.startup import start_as_declared

    start_as_declared()
    from upaya.measuring.probe import probe_declared
    from upaya.measuring.probe_report import report_path, show

    known = (POLICIES / policy).is_dir()
    report = probe_declared(policy, None if known else policy)
    show(report)
    path = report_path(policy if known else Path(policy).name)
    report.write(path)
    console.print(f"probe: {path}")


@app.command()
def compare() -> None:
    """The arms side by side, as `make compare` left them."""
    from upaya.measuring.comparison import show_arms

    show_arms()


@app.command()
def plan(model: str = typer.Option("", help="a file under params/models/; the chosen one where none is given")) -> None:
    """What a model needs in memory under every launch of params/launch/, and whether it fits."""
    from upaya.declared.curricula import load_curricula
    from upaya.measuring.plan import show as show_plan
    from upaya.rewards.regimes import load_regimes

    curricula = load_curricula(load_regimes())
    show_plan(curricula, model or curricula.model)


@app.command()
def track() -> None:
    """Bring MLflow to hold all that is built; what it has already is left as it is."""
    from upaya.tracking.rebuild import rebuild
    from upaya.tracking.store import shown_uri
    from upaya.tracking.tracker import reason

    try:
        told = rebuild(lambda name: console.print(f"MLflow: {name}"))
    except Exception as error:  # whatever a store or the way to it can raise
        raise UserError(f"MLflow at {shown_uri()} does not answer: {reason(error)}") from None
    if not told:
        raise UserError("nothing under policies/ to tell MLflow of; `make run` builds it")


def main() -> None:
    with shown_to_user():
        app()
