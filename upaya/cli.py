"""The console script `upaya`: build curricula and look at what was built.

Exit codes: 0 done; 1 a mistake, said with what to do; 2 a wrong option; 128 and a signal's number where one ended it.
"""

import os
import sys
from pathlib import Path

import typer

from upaya.errors import UserError, shown_to_user
from upaya.paths import POLICIES
from upaya.terminal import console

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)


@app.command()
def show(
    policy: str = typer.Argument("lenient-strict"),
    step: int | None = typer.Option(None, help="groups of this step, counted from the warm-up"),
    dead: bool = typer.Option(False, "--dead", help="only groups that taught nothing"),
    question: str | None = typer.Option(None, help="groups of this question, through the steps"),
    most: int = typer.Option(4, min=1, help="how many groups, the last ones"),
) -> None:
    """The table of a policy and its ancestors; with --step, --dead or --question groups of their training.

    upaya show lenient-strict
    upaya show lenient-strict --step 40
    upaya show lenient --dead --most 2
    """
    from upaya.measuring.groups import show_groups
    from upaya.measuring.report import show as show_table

    if step is None and question is None and not dead:
        show_table(policy)
    else:
        show_groups(policy, step, dead, question, most)


@app.command()
def ask(
    policy: str = typer.Argument(help="a policy's name, or a folder with a model"),
    question: str = typer.Argument("", help="the question, in either script; else one of the validation questions"),
    samples: int = typer.Option(0, help="sampled completions to show beside the greedy one"),
) -> None:
    """Ask a policy a question.

    upaya ask lenient-strict
    upaya ask lenient-strict '依《俱舍論》，眼界…' --samples 4
    """
    from upaya.startup import start_as_declared

    start_as_declared()
    from upaya.corpus.script import Converter
    from upaya.declared.curricula import load_curricula
    from upaya.declared.model import load_model_file
    from upaya.declared.sampling import GREEDY, SamplingParams
    from upaya.policy.model import load
    from upaya.records.policies import verified
    from upaya.rewards.regimes import load_regimes
    from upaya.sampling.decoding import sample

    folder = POLICIES / policy
    built = folder.is_dir()
    if not question:
        from upaya.corpus.questions import read
        from upaya.paths import QUESTIONS

        one = read(QUESTIONS, "validation", load_curricula(load_regimes()).questions)[0]
        question = one.prompt
        console.print(f"{question}\nright: {one.answer}\n", markup=False)
    if built:
        verified(policy)
    # One of ours is asked as it was trained: with its system prompt, in its precision.
    model = load(folder, load_model_file(load_curricula(load_regimes()).model)) if built else load(Path(policy))
    prompt = [model.encode_prompt(Converter().simplify(question))]
    console.print(sample(model, prompt, 1, GREEDY, seed=0, step=0, prompt_indices=[0]).texts(model)[0][0], markup=False)
    if samples:
        drawn = sample(model, prompt, samples, SamplingParams(), seed=0, step=0, prompt_indices=[0])
        for text in drawn.texts(model)[0]:
            console.print(text, markup=False)


audits = typer.Typer(invoke_without_command=True)
app.add_typer(audits, name="audit")


@audits.callback()
def audit(context: typer.Context) -> None:
    """Score every regime on hacks and near misses; exit code 1 where a hack earns more than params/audit.yaml says.

    upaya audit
    upaya audit script T27n1545
    """
    if context.invoked_subcommand:
        return
    from upaya.measuring.audit import run

    if not run():
        raise UserError("a degenerate completion earns more than declared (above); see params/audit.yaml")


@audits.command()
def script(
    text: str = typer.Argument(help="an imported text's name, or its folder"),
    places: int = typer.Option(3, min=1, help="how many places of each, the first ones"),
) -> None:
    """What conversion to Simplified does to a whole imported text that is ambiguous, or against the dictionary.

    upaya audit script T27n1545
    """
    from upaya.operating.script_audit import audit_script

    audit_script(text, places)


imports = typer.Typer(no_args_is_help=True)
app.add_typer(imports, name="import", help="A text made passages that know their printed lines, below corpus/texts/.")

IMPORT_NAME = typer.Option("", "--name", help="what it is called; else by the work's id, or after the folder")


@imports.command()
def kanripo(folder: Path, name: str = IMPORT_NAME) -> None:
    """A folder of Kanripo's (Mandoku) files, or one file.

    upaya import kanripo KR6l0010
    """
    from upaya.operating.importing import import_text

    import_text("kanripo", folder, name)


@imports.command()
def cbeta(file_or_folder: Path, name: str = IMPORT_NAME) -> None:
    """CBETA's TEI files (P5, P5a, P5b) below a folder, or one file.

    upaya import cbeta T27n1545.xml
    """
    from upaya.operating.importing import import_text

    import_text("cbeta", file_or_folder, name)


@imports.command()
def text(folder: Path, name: str = IMPORT_NAME) -> None:
    """A folder of plain .txt files, a fascicle each; an empty line ends a paragraph.

    upaya import text sonnets
    """
    from upaya.operating.importing import import_text

    import_text("text", folder, name)


@app.command()
def extract(
    text: str = typer.Argument(help="an imported text's name, or its folder"),
    treatise: str = typer.Option("", help="what the questions call it; else its own title"),
) -> None:
    """Questions that an imported text itself asks and answers, into corpus/extracted/, for a person to review.

    upaya extract T27n1545 --treatise 大毘婆沙論
    """
    from upaya.operating.extracting import extract as extract_questions

    extract_questions(text, treatise)


@app.command()
def probe(policy: str = typer.Argument(help="a policy's name, or a folder or hub name of a model")) -> None:
    """What a policy could learn from before any GRPO, and which curriculum that recommends.

    upaya probe warmup
    upaya probe /models/qwen2.5-3b
    """
    from upaya.startup import start_as_declared

    start_as_declared()
    from upaya.measuring.probe import probe_declared
    from upaya.measuring.probe_report import show
    from upaya.records.probes import report_path

    known = Path(policy).name == policy and (POLICIES / policy).is_dir()
    report = probe_declared(policy, None if known else policy)
    show(report)
    path = report_path(policy if known else Path(policy).name)
    report.write(path)
    console.print(f"probe: {path}")


@app.command()
def compare() -> None:
    """The arms side by side, as `make compare` left them.

    upaya compare
    """
    from upaya.measuring.comparison import show_arms

    show_arms()


@app.command()
def adopt(
    data: str = typer.Argument("", help="a .jsonl, .csv, .tsv or .parquet file, or a folder with a dataset"),
    model: str = typer.Option(
        "", help="a model instead: its folder in the transformers layout, or owner/name on the hub"
    ),
    name: str = typer.Option("", help="what it is called; else after the file or folder"),
    question: str = typer.Option("", help="the column of the questions, or a text with columns in braces"),
    answer: str = typer.Option("", help="the column of the answers"),
    answer_type: str = typer.Option("", help="of the answers: number, term, text, …"),
    dry_run: bool = typer.Option(False, "--dry-run", help="show what would change, and change nothing"),
) -> None:
    """Questions or a model of your own: look at them, and change params/ so that `make run` takes them.

    upaya adopt sums.jsonl --dry-run
    upaya adopt quiz.csv --name quiz --answer Correct
    upaya adopt --model /models/qwen2.5-0.5b-instruct
    """
    if bool(data) == bool(model):
        raise UserError("name either a file of questions, or a model by --model")
    if model:
        from upaya.operating.adopting_model import adopt_model

        adopt_model(model, name or Path(model).resolve().name, dry_run)
        return
    from upaya.operating.adopting import adopt as adopt_data

    told = {"question": question, "answer": answer, "answer_type": answer_type}
    adopt_data(data, name or Path(data).stem, {key: value for key, value in told.items() if value}, dry_run)


export = typer.Typer(no_args_is_help=True, help="Write what was made here in a form that others read.")
app.add_typer(export, name="export")


@export.command("questions")
def export_questions(
    to: str = typer.Option(..., help="a folder that does not exist yet"),
    licence: str = typer.Option("unknown", help="under which you publish them, as the hub names it: cc-by-4.0, …"),
) -> None:
    """The questions as a data set for the `datasets` library, with a datasheet and tasks for lm-evaluation-harness.

    upaya export questions --to /tmp/abhidharma --licence cc-by-4.0
    """
    from upaya.operating.exporting import export_questions as export_all

    export_all(Path(to), licence)


@app.command()
def plan(
    policy: str = typer.Argument("lenient-strict", help="a policy of params/curricula.yaml"),
    model: str = typer.Option("", help="a file under params/models/; the chosen one where none is given"),
    measure: bool = typer.Option(False, help="measure what this machine computes, and say what a step takes here"),
) -> None:
    """Which stages would run for a policy and why, and what its model needs under every launch: memory, disk, time.

    upaya plan lenient-strict
    upaya plan --model qwen2.5-3b-instruct --measure
    """
    from upaya.declared.curricula import load_curricula
    from upaya.declared.model import load_model_file
    from upaya.measuring.plan import show as show_memory
    from upaya.operating.pipeline import targets_of
    from upaya.operating.plan import show as show_stages
    from upaya.rewards.regimes import load_regimes

    curricula = load_curricula(load_regimes())
    if not model:
        show_stages(targets_of(policy, curricula), curricula)
    name = model or curricula.model
    machine = None
    if measure:
        from upaya.startup import start_as_declared

        start_as_declared()
        from upaya.measuring.roofline import measured

        machine = measured(load_model_file(name).dtype)
    show_memory(curricula, name, machine)


@app.command()
def status() -> None:
    """What is at work in this checkout, at which step and since when; what is half done; what is not current.

    upaya status
    """
    from upaya.operating.status import show as show_status

    show_status()


@app.command()
def doctor() -> None:
    """Is this machine and this checkout fit for work? Each problem with its cure; exit code 1 where there is one.

    upaya doctor
    """
    from upaya.operating.doctor import show as show_findings

    if not show_findings():
        raise typer.Exit(1)


@app.command()
def stop() -> None:
    """Stop what is at work in this checkout: training saves a checkpoint, and the same command goes on from there.

    upaya stop
    """
    from upaya.operating.stopping import stop as stop_all

    stop_all()


ONWARD = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=ONWARD, add_help_option=False)
def run(context: typer.Context) -> None:
    """Build a policy: `python -m flows.curriculum`, whose options it takes.

    upaya run lenient-strict
    upaya run lenient-strict --seed 7 --set grpo.group_size=16
    """
    _flow("flows.curriculum", context.args)


@app.command(context_settings=ONWARD, add_help_option=False)
def seeds(context: typer.Context) -> None:
    """Build arms with several seeds: `python -m flows.seeds`, whose options it takes.

    upaya seeds lenient-strict strict-only --seeds 11-15
    """
    _flow("flows.seeds", context.args)


def _flow(module: str, arguments: list[str]) -> None:
    """The flows stand above this library, which knows them by name only."""
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


@app.command()
def track() -> None:
    """Bring MLflow to hold all that is built; what it has already is left as it is.

    upaya track
    """
    from upaya.tracking.rebuild import all_built, rebuild
    from upaya.tracking.store import shown_uri
    from upaya.tracking.tracker import reason

    told = all_built()  # what is wrong with a file is said before anything is sent
    if not told:
        raise UserError("nothing under policies/ to tell MLflow of; `make run` builds it")
    try:
        rebuild(told, lambda name: console.print(f"MLflow: {name}"))
    except Exception as error:  # whatever a store or the way to it can raise
        raise UserError(f"MLflow at {shown_uri()} does not answer: {reason(error)}") from None


def main() -> None:
    with shown_to_user():
        app()
