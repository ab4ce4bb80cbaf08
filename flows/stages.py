"""Stages of DVC's graph run as Prefect tasks, parents first: what every flow here does."""

from prefect.states import Completed, Failed, State

from tasks.dvc import bring_up_to_date, graph_to


def build(targets: list[str], name: str) -> State:
    """Bring the target stages and all they depend on up to date; Failed with the first stage that fails.

    Raises UserError where DVC cannot read the pipeline or knows no such stage.
    """
    states: dict[str, State] = {}
    for stage in graph_to(targets):
        task = bring_up_to_date(stage)
        state = task(wait_for=[states[parent] for parent in stage.parents], return_state=True)
        states[stage.address] = state
        if not state.is_completed():
            return Failed(message=state.message)
    skipped = sum(state.name == "Skipped" for state in states.values())
    return Completed(message=f"{name}: {len(states) - skipped} stages run, {skipped} skipped")
