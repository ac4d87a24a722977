"""The metrics of runs, in `reports/metrics`."""

from stages.base.files import read_json
from stages.base.runs import METRICS


def read_metrics(split: str, run: str) -> dict:
    """A run's metrics on `"val"` or `"test"`: see `with_network`."""
    return with_network(read_json(METRICS / split / f"{run}.json"))


def with_network(metrics: dict) -> dict:
    """Metrics to which the items of their `network` (parameters, multiply_adds, epochs) are added as keys.

    In the file, `network` is a list, because `dvc metrics` does not print lists: its table stays as narrow as a terminal.
    """
    return metrics | metrics.get("network", [{}])[0]
