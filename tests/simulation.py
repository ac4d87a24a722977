"""The cost of the scheduler: a cluster of 100 workers, and graphs of up to 1,000 stages that only sleep.

`python -m tests.simulation` writes `tests/simulation.csv`; `python -m tests.faults` puts it into tests/README.md. Scheduler
and workers are threads of one process, so its processor time, divided by the number of stages, is what a stage costs beside
its own work. To plan is to read such a graph from a `dvc.yaml` and to ask DVC what changed. The graph is the project's:
`prepare`, a training and an evaluation per run, `select`, `compare`, `report`.
"""

import contextlib
import json
import tempfile
import time
from pathlib import Path

import pandas as pd
from distributed import get_worker
from dvc.repo import Repo

from stages.cluster.clusters import on_this_machine
from stages.cluster.execution import run_plan
from stages.cluster.plan import Plan, read_plan
from stages.cluster.worker import Done, not_run
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
    return Plan((), needs, {})


def sleep(token: str, name: str, *needed: Done) -> Done:
    """A stage that only sleeps; it says where it runs, as `worker.run_stage` does."""
    where = get_worker()
    where.log_event(token, {"name": name, "where": str(where.name), "when": time.time()})
    time.sleep(SLEEP)
    return not_run(name, "") | {"status": 0}


def plan_again(plan: Plan) -> float:
    """Read a plan from a project of DVC's that has its stages; return the processor time, in seconds."""
    places = {name: f"data/{name.replace('@', '-')}" for name in plan.needs}
    stages = {
        Path(places[name]).name: {"cmd": "true", "deps": [places[other] for other in needed], "outs": [places[name]]}
        for name, needed in plan.needs.items()
    }
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Repo.init(no_scm=True).close()
        Path("dvc.yaml").write_text(json.dumps({"stages": stages}))
        used = time.process_time()
        found = read_plan(())
        used = time.process_time() - used
    assert len(found.here) + len(found.needs) == len(stages)
    return used


def simulate(count: int) -> dict[str, float]:
    """Run a graph of `count` stages; return what it cost."""
    plan = graph(count)
    with on_this_machine(WORKERS) as client:
        began, used = time.monotonic(), time.process_time()
        ended = run_plan(client, plan, dict.fromkeys(plan.needs, SLEEP), "simulation", sleep)
        seconds, used = time.monotonic() - began, time.process_time() - used
    assert len(ended) == len(plan.needs)
    assert {done["status"] for done in ended} == {0}
    least = max(
        SLEEP * len(plan.needs) / WORKERS, SLEEP * 5
    )  # the work is divided among all; the longest chain has five
    planning = plan_again(plan)
    return {
        "stages": len(plan.needs),
        "seconds": round(seconds, 1),
        "least": round(least, 1),
        "ms_per_stage": round(1000 * used / count, 2),
        "planning_ms_per_stage": round(1000 * planning / count, 2),
    }


if __name__ == "__main__":
    write_csv(RESULTS, pd.DataFrame(map(simulate, STAGES)))
    print(pd.read_csv(RESULTS).to_string(index=False))
