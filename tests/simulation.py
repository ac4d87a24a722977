"""The cost of the scheduler: a cluster of 100 workers, and graphs of up to 1,000 stages that only sleep.

`python -m tests.simulation` writes `tests/simulation.csv`; `python -m tests.faults` puts it into tests/README.md. Scheduler
and workers are threads of one process, so its processor time, divided by the number of stages, is what a stage costs beside
its own work. The graph is the project's: `prepare`, a training and an evaluation per run, `select`, `compare`, `report`.
"""

import time

import pandas as pd
from distributed import get_worker

from stages.cluster.clusters import on_this_machine
from stages.cluster.execution import run_plan
from stages.cluster.plan import Plan
from stages.cluster.worker import Done
from stages.common.files import write_csv
from tests.conftest import ROOT

RESULTS = ROOT / "tests" / "simulation.csv"
WORKERS, STAGES, SLEEP = 100, (125, 250, 500, 1000), 1.0


def graph(count: int) -> Plan:
    """A plan of `count` stages; every other one of them is a training, of which another one needs the result."""
    runs = range((count - 4) // 2)
    needs = {"prepare": ()}
    needs |= {f"train@model-{run}": ("prepare",) for run in runs}
    needs |= {f"evaluate@model-{run}": (f"train@model-{run}",) for run in runs}
    needs["select"] = tuple(f"train@model-{run}" for run in runs)
    needs["compare"] = ("select", *(f"evaluate@model-{run}" for run in runs))
    needs["report"] = ("compare",)
    return Plan((), needs, {}, tuple(needs))


def sleep(token: str, name: str, *needed: Done) -> Done:
    """A stage that only sleeps; it says where it runs, as `worker.run_stage` does."""
    where = get_worker()
    where.log_event(token, {"name": name, "where": str(where.name), "when": time.time()})
    time.sleep(SLEEP)
    return Done(stage=name, status=0, log="", worker=str(where.name), runs={})


def simulate(count: int) -> dict[str, float]:
    """Run a graph of `count` stages; return what it cost."""
    plan = graph(count)
    with on_this_machine([[]] * WORKERS) as client:
        began, used = time.monotonic(), time.process_time()
        ended = run_plan(client, plan, dict.fromkeys(plan.needs, SLEEP), "simulation", sleep)
        seconds, used = time.monotonic() - began, time.process_time() - used
    assert len(ended) == len(plan.needs)
    assert {done["status"] for done in ended} == {0}
    least = max(
        SLEEP * len(plan.needs) / WORKERS, SLEEP * 5
    )  # the work is divided among all; the longest chain has five
    return {
        "stages": len(plan.needs),
        "seconds": round(seconds, 1),
        "least": round(least, 1),
        "ms_per_stage": round(1000 * used / count, 2),
    }


if __name__ == "__main__":
    write_csv(RESULTS, pd.DataFrame(map(simulate, STAGES)))
    print(pd.read_csv(RESULTS).to_string(index=False))
