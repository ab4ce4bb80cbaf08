"""Components of a user's own: functions named by their dotted path. They are trusted code, run in this process; what
is checked here is that they do as they promise, so that a slip is named before it trains anything."""

import importlib
import math
import multiprocessing
import os
import random
import sys
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

from upaya.corpus.answers import Completion, parse
from upaya.corpus.questions import Question
from upaya.errors import UserError, nearest
from upaya.rewards.specimens import TYPICAL, degenerate
from upaya.time_limit import Overtime, within

Component = Callable[[Completion, Question], float]

SECONDS = 5.0  # that one call may take; a step has hundreds
TRIAL_SECONDS = 60.0  # of all calls of the trial together
PLACES_APART = 1e-9


@cache
def own_component(path: str) -> Component:
    """The function at a dotted path, held to its promise at every call: a number in [0, 1], in SECONDS.

    It is tried first. Raises ValueError where there is none, and UserError where it fails the trial; both name it.
    """
    _try(path)
    return _checked(path, _found(path))


def _checked(path: str, function: Component) -> Component:
    def checked(completion: Completion, question: Question) -> float:
        try:
            with within(SECONDS):
                value = function(completion, question)
            number = float("nan") if isinstance(value, str | bytes) else float(value)
        except Overtime:
            raise UserError(
                f"component {path!r} took more than {SECONDS:g} s for question {question.id!r} and the completion "
                f"{completion.text[:60]!r}; that is as long as one call may take"
            ) from None
        except BaseException as error:  # whatever the user's function raises, `exit()` and KeyboardInterrupt too
            raise UserError(f"component {path!r} failed on question {question.id!r}: {_told(error)}") from None
        if not (math.isfinite(number) and 0 <= number <= 1):
            raise UserError(f"component {path!r} gave {value!r} for question {question.id!r}; it must be in [0, 1]")
        return number

    return checked


def _found(path: str) -> Component:
    module_name, _, function_name = path.rpartition(".")
    if str(Path.cwd()) not in sys.path:  # the console script starts without the project's folder
        sys.path.insert(0, str(Path.cwd()))
    try:
        with within(TRIAL_SECONDS):
            module = importlib.import_module(module_name)
    except Overtime:
        raise ValueError(f"component {path!r}: importing {module_name!r} took more than {TRIAL_SECONDS:g} s") from None
    except BaseException as error:  # whatever the user's module raises while it is imported
        raise ValueError(f"component {path!r}: cannot import {module_name!r} ({_told(error)})") from None
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise ValueError(f"component {path!r}: {module_name} has no function {function_name!r}; "
                         f"{nearest(function_name, known)}")  # fmt: skip
    return function


def _try(path: str) -> None:
    """Import it and score typical questions in a process of its own, so that one that ends its process ends no run.

    Raises ValueError or UserError with what is wrong.
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_trial, args=(path, there), daemon=True)
    process.start()
    there.close()
    wrong: Exception | None
    try:
        late = UserError(f"component {path!r}: its trial took more than {TRIAL_SECONDS:g} s")
        wrong = here.recv() if here.poll(2 * TRIAL_SECONDS) else late  # the import has as many for itself
    except EOFError:
        process.join()
        wrong = UserError(f"component {path!r}: it ends the program that calls it (exit code {process.exitcode})")
    finally:
        process.kill()
        process.join()
    if wrong:
        raise wrong


def _trial(path: str, answer: Connection) -> None:
    wrong: Exception | None = None
    try:
        if said := _impure(_checked(path, _found(path))):
            wrong = UserError(f"component {path!r}: {said}")
    except (UserError, ValueError) as error:
        wrong = type(error)(str(error))
    answer.send(wrong)
    answer.close()
    os._exit(0)  # without the clean-up of the process that it was forked from


def _impure(component: Component) -> str:
    """What shows that a component is no pure function, in words; "" where nothing does."""
    asked = [(question, parse(specimen.text, question.form)) for question in TYPICAL
             for specimen in degenerate(question, TYPICAL)]  # fmt: skip
    asked += [(question, parse(question.gold, question.form)) for question in TYPICAL]
    first: list[float] = []
    for question, completion in asked:
        given, said = question.model_copy(deep=True), Completion(**vars(completion))
        first.append(component(said, given))
        if given != question or said != completion:
            return f"it changes the {'completion' if given == question else 'question'} that it is given; copy it"
    order = random.Random(0).sample(range(len(asked)), len(asked))
    if _differs(component, asked, range(len(asked)), first) or _differs(component, asked, order, first):
        return (
            "it gives the same completion another value the second time, or in another order: a component is a pure "
            "function, without chance, clock or count"
        )
    return ""


def _differs(
    component: Component, asked: Sequence[tuple[Question, Completion]], order: Sequence[int], first: Sequence[float]
) -> bool:
    return any(
        abs(component(Completion(**vars(asked[place][1])), asked[place][0].model_copy(deep=True)) - first[place])
        > PLACES_APART
        for place in order
    )


def _told(error: BaseException) -> str:
    """An exception in one line, with the place in the user's code where it arose."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f", {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}: {error}{place}"
