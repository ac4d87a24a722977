"""What has to run: DVC says which stages there are, what each of them needs, and which of them changed."""

from dataclasses import dataclass

import networkx
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph
from dvc.stage import Stage

from stages.common.parameters import read_parameters

UNKNOWN = 10.0  # expected seconds of a stage that has never run


@dataclass(frozen=True)
class Plan:
    """The stages that have to run, by DVC's names.

    Attributes:
        here: Those whose results DVC's cache of runs does not hold, in order: they run in the workspace, before all others.
        needs: For each of the others, in an order in which they can run, those of the others that it needs directly.
        devices: How many GPUs a stage computes on, where it computes on any.
        lost: Those whose results in `dvc.lock` are not in DVC's cache, as in a fresh clone. DVC prefers an entry of
            `dvc.lock` to its cache of runs, and would run them again although a worker did.
    """

    here: tuple[str, ...]
    needs: dict[str, tuple[str, ...]]
    devices: dict[str, int]
    lost: tuple[str, ...] = ()


def read_plan(targets: tuple[str, ...]) -> Plan:
    """Ask DVC which stages have to run in the current folder.

    A stage has to run if something that it reads or writes changed, or if a stage has to run that it needs. Stages that are
    frozen do not run, as in `dvc repro`.

    Args:
        targets: Names of stages, as for `dvc repro`; none for all of `dvc.yaml`.

    Raises:
        dvc.exceptions.DvcException: There is no such stage, or `dvc.yaml` or `dvc.lock` is wrong.
    """
    with Repo(".") as repo:
        graph = get_active_graph(repo.index.graph)  # an arrow leads from a stage to what it needs
        asked = collect_stages(repo, targets or ["dvc.yaml"])
        wanted = set(asked).union(*(networkx.descendants(graph, stage) for stage in asked))
        with repo.lock:
            changed = {stage for stage in wanted if not stage.frozen and stage.status(check_updates=True)}
        order = [stage for stage in reversed(list(networkx.topological_sort(graph))) if stage in wanted]
        runs: set[Stage] = set()
        here: list[Stage] = []
        needs: dict[Stage, list[Stage]] = {}
        for stage in order:
            needed = list(graph.successors(stage))
            if stage.frozen or not (stage in changed or any(other in runs for other in needed)):
                continue
            runs.add(stage)
            if is_kept(stage) or any(other in needs for other in needed):
                needs[stage] = [other for other in needed if other in needs]
            else:
                here.append(stage)
        return Plan(
            tuple(stage.addressing for stage in here),
            {stage.addressing: tuple(other.addressing for other in needed) for stage, needed in needs.items()},
            {stage.addressing: read_parameters("devices") for stage in needs if reads_devices(stage)},
            tuple(stage.addressing for stage in needs if not stage.outs_cached()),
        )


def is_kept(stage: Stage) -> bool:
    """Whether DVC's cache of runs can hold a stage: it has a command, inputs and results, of which none persists."""
    known = bool(stage.cmd and stage.deps and stage.outs) and not stage.always_changed
    return known and not any(result.persist for result in stage.outs)


def reads_devices(stage: Stage) -> bool:
    """Whether a stage reads the parameter `devices`."""
    return any("devices" in getattr(read, "params", ()) for read in stage.deps)


def priorities(plan: Plan, seconds: dict[str, float]) -> dict[str, float]:
    """For each stage that workers run: the expected seconds from its start to the end of the longest chain after it.

    Where there is a choice, the stage with the largest number should run first. Source: R. L. Graham, "Bounds on
    Multiprocessing Timing Anomalies" (1969), and the critical path method.

    Args:
        plan: What has to run.
        seconds: The expected duration of stages; `UNKNOWN` where there is none.
    """
    longest: dict[str, float] = {}
    after = dict.fromkeys(plan.needs, 0.0)  # the expected seconds of what comes after a stage
    for name in reversed(plan.needs):
        longest[name] = seconds.get(name, UNKNOWN) + after[name]
        for other in plan.needs[name]:
            after[other] = max(after[other], longest[name])
    return longest
