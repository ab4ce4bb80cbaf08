"""A batch of completions, shared out among the processes and cut into passes that fit the memory."""

from collections.abc import Iterator, Sequence

from upaya.training.steps import processes


def micro_batches(
    rows: Sequence[int], lengths: Sequence[int], prompt_of: Sequence[int], prompt_lengths: Sequence[int], budget: int
) -> Iterator[tuple[list[int], bool]]:
    """This process's passes over its share of the rows: (rows, whether they count).

    A pass holds as many tokens as the budget allows, sorted by length; a prompt counts once in each pass that holds its
    completions. All processes make equally many passes, for those of ZeRO wait for each other: one that has nothing
    left repeats a row that does not count.

    Args:
        rows: the whole batch; the same in every process.
        lengths, prompt_of, prompt_lengths: of any completion its tokens and its prompt, of any prompt its tokens.
    """
    own_batches = list(_within(budget, share(rows, lengths), lengths, prompt_of, prompt_lengths))
    most = max(processes.gathered(len(own_batches)))
    yield from ((batch, True) for batch in own_batches)
    yield from (([rows[0]], False) for _ in range(most - len(own_batches)))


def share(rows: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """This process's part of the rows: a stretch of them, the stretches nearly equal in tokens.

    Completions of one prompt stand side by side, so that few prompts are computed by two processes.
    """
    total, before, own_rows = sum(lengths[row] for row in rows), 0, []
    for row in rows:
        if before * processes.world() // total == processes.rank():
            own_rows.append(row)
        before += lengths[row]
    return own_rows


def _within(
    budget: int, rows: Sequence[int], lengths: Sequence[int], prompt_of: Sequence[int], prompt_lengths: Sequence[int]
) -> Iterator[list[int]]:
    batch: list[int] = []
    held, prompts = 0, set[int]()
    for row in sorted(rows, key=lambda row: (lengths[row], row)):
        prompt = prompt_of[row]
        more = lengths[row] + (0 if prompt in prompts else prompt_lengths[prompt])
        if batch and held + more > budget:
            yield batch
            batch, held, prompts = [], 0, set()
            more = lengths[row] + prompt_lengths[prompt]
        batch.append(row)
        held += more
        prompts.add(prompt)
    if batch:
        yield batch
