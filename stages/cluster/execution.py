"""Hand the stages of a plan to the workers of a Dask cluster, which runs each as soon as what it needs is there."""

from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from types import MappingProxyType

from distributed import Client, Future, KilledWorker, as_completed

from stages.cluster import worker
from stages.cluster.clusters import ByValue
from stages.cluster.display import Attendance, Display
from stages.cluster.plan import Plan, priorities
from stages.cluster.worker import GPU, Done, not_run
from stages.common.errors import InputError
from stages.common.progress import expected

LOST = "the connection to the scheduler was lost"


def run_plan(
    client: Client, plan: Plan, seconds: dict[str, float], token: str, run: Callable[..., Done] = worker.run_stage
) -> list[Done]:
    """Run the stages of a plan on the workers of a cluster, and show it.

    Args:
        client: Of the cluster.
        plan: What has to run.
        seconds: The durations of earlier runs, by stage.
        token: The name of the workers' plugin `worker.Project`. Others may use the cluster, too, with names of their own.
        run: What a worker does with the token, the name of a stage and what became of those that it needs.

    Returns:
        What became of each stage, in the order in which they ended.

    Raises:
        InputError: No worker can run one of the stages.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"]
    slots = sum(one["nthreads"] for one in workers.values())
    devices = asked_for(plan, [one["resources"].get(GPU, 0) for one in workers.values()])
    ranks = priorities(plan, seconds)
    with Display(list(plan.needs), slots, {name: expected(name, seconds) for name in plan.needs}) as display:
        told: dict[str, Done] = {}

        def hear(event: tuple[float, dict]) -> None:
            if done := event[1].get("done"):
                told[done["stage"]] = done
            display.hear(event[1])

        client.subscribe_topic(token, hear)
        Attendance(client, display.say)
        futures: dict[str, Future] = {}
        for name, needed in plan.needs.items():
            futures[name] = client.submit(
                ByValue(run),
                token,
                name,
                *(futures[other] for other in needed),
                key=f"{name}/{token}",
                priority=ranks[name],
                resources={GPU: devices[name]} if name in devices else None,
            )
        ended = []
        for future in as_completed(futures.values()):
            ended.append(result_of(future, told))
            display.end(ended[-1])
        return ended


def asked_for(plan: Plan, offered: list[float]) -> dict[str, int]:
    """How many GPUs a stage asks for, if it trains and a worker offers GPUs at all.

    Raises:
        InputError: A stage needs more than the `offered` GPUs of any worker.
    """
    most, needed = max(offered, default=0), max(plan.devices.values(), default=0)
    if 0 < most < needed:
        raise InputError(
            f"`devices` in params.yaml is {needed}, but no worker offers so many GPUs: the most is {most:g}. Set "
            f"`devices` to that, or start workers (`dask worker`) with `--resources {GPU}={needed}`."
        )
    return plan.devices if most else {}


def result_of(future: Future, told: Mapping[str, Done] = MappingProxyType({})) -> Done:
    """What became of a stage; one whose workers were lost, again and again, failed.

    Args:
        future: Its key begins with the name of the stage.
        told: What workers told of stages that ended, by name: it counts where the connection was lost since.
    """
    name = future.key.rpartition("/")[0]
    if future.cancelled():
        return told.get(name, not_run(name, LOST))
    error = future.exception()
    if error is None:
        try:
            return future.result()
        except (OSError, CancelledError):
            return told.get(name, not_run(name, LOST))
    lost = isinstance(error, KilledWorker)
    return not_run(name, "") | {
        "status": 1,
        "log": f"its worker was lost {error.allowed_failures + 1} times"
        if lost
        else f"{type(error).__name__}: {error}",
        "worker": str(error.last_worker.name) if lost else "",
    }
