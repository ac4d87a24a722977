"""What has to run: DVC says which stages there are, what each of them needs, and which of them changed."""

from typing import NamedTuple

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

from stages.base.errors import InputError

UNKNOWN_SECONDS = 10.0  # expected of a stage that has never run


class Plan(NamedTuple):
    """The stages that have to run, by DVC's names."""

    # For each of them, in an order in which they can run: those of the others that it needs.
    needs: dict[str, list[str]]
    devices: dict[str, int]  # the value of the parameter `devices`, for those that read it


def read_plan(targets: list[str]) -> Plan:
    """Ask DVC which stages have to run: those of which something changed, and those that need them. Frozen ones do not run.

    Args:
        targets: Names of stages, as for `dvc repro`; none for all.

    Raises:
        InputError: There is no such stage, or `dvc.yaml` or `dvc.lock` is wrong.
    """
    plan = Plan({}, {})
    try:
        with Repo(_wait_for_lock=True) as repo, repo.lock:
            graph = get_active_graph(repo.index.graph)  # an arrow leads from a stage to what it needs
            asked = collect_stages(repo, targets) if targets else graph
            for stage in plan_repro(graph, list(asked)):  # in the order of `dvc repro`
                needed = [other.addressing for other in graph.successors(stage) if other.addressing in plan.needs]
                if not stage.frozen and (needed or stage.status(check_updates=True)):
                    plan.needs[stage.addressing] = needed
                    for dep in stage.deps:
                        if "devices" in getattr(dep, "params", ()):
                            plan.devices[stage.addressing] = dep.read_params()["devices"]
    except DvcException as error:
        listed = " `dvc stage list` shows all stages." if targets else ""
        raise InputError(f"{str(error).rstrip('.')}.{listed}") from None
    return plan


def priorities(needs: dict[str, list[str]], seconds: dict[str, float]) -> dict[str, float]:
    """For each stage of a plan: the expected seconds from its start to the end of the longest chain after it.

    Args:
        needs: See `Plan`.
        seconds: The expected duration of stages; `UNKNOWN_SECONDS` where there is none.
    """
    longest: dict[str, float] = {}
    for name in reversed(needs):
        after = [longest[other] for other in longest if name in needs[other]]
        longest[name] = seconds.get(name, UNKNOWN_SECONDS) + max(after, default=0)
    return longest
