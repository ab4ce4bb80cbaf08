"""Questions that reasoning-gym generates: an optional library, `pip install reasoning-gym`."""

import importlib.metadata
from collections.abc import Iterator

from upaya.corpus.sources.rows import Row
from upaya.declared.questions import ReasoningGymSource
from upaya.errors import UserError


def reasoning_gym_rows(name: str, declared: ReasoningGymSource) -> Iterator[Row]:
    """`size` questions of one of its datasets. Raises UserError where its version is not the declared one: another may
    generate others."""
    try:
        installed = importlib.metadata.version("reasoning-gym")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"source {name!r}: pip install reasoning-gym=={declared.version}") from None
    if installed != declared.version:
        raise UserError(
            f"source {name!r}: version {declared.version} of reasoning-gym is declared, {installed} is here"
        )
    import reasoning_gym

    try:
        generated = reasoning_gym.create_dataset(
            declared.dataset, size=declared.size, seed=declared.seed, **declared.config
        )
    except (ValueError, TypeError, AssertionError) as error:
        raise UserError(
            f"source {name!r}: reasoning-gym makes no dataset {declared.dataset!r} of this: {error}"
        ) from None
    for number in range(declared.size):
        item = generated[number]
        yield Row({"prompt": item["question"], "answer": item["answer"]}, f"{declared.dataset}, item {number}")
