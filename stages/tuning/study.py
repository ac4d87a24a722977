"""The study of a search: its trials, kept by Optuna in a file that outlives the process, and what comes next.

Trials are proposed by the tree-structured Parzen estimator. Sources: Bergstra et al., "Algorithms for Hyper-Parameter
Optimization" (2011); Akiba et al., "Optuna" (2019). Its seed is fixed; but of trials that run at once, the one that ends
first decides on what the estimator knows, so that two searches propose different values, unless one trial runs at a time.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from stages.base.errors import InputError
from stages.parameters.search import Range

optuna.logging.set_verbosity(optuna.logging.ERROR)

# SQLite: a process that is killed while it writes leaves a file that can be read, and no lock. Outside of DVC's results.
STORE = Path(".dvc/tmp/search/study.db")
DIGITS = 4  # of a number that is tried, so that it can be read and typed

# A trial is stopped if its best validation accuracy so far is among the worst quarter of that of earlier trials at the same
# epoch: a milder form of the median stopping rule of Golovin et al., "Google Vizier" (2017). Not in the first part of the
# run, since until the learning rate has fallen, low rates look better than they are: Wu et al., "Understanding
# Short-Horizon Bias in Stochastic Meta-Optimization" (2018). Measured with ten trials of sprint: the rank correlation there
# with the final accuracy is 0.6, and half of the trials would have been too many, the block of sprint among them.
FIRST_PART = 0.6
KEPT_PERCENT = 75
MIN_COMPLETE = 8  # not before so many trials are complete


def open_study(model: str, block: dict, ranges: dict[str, Range], conditions: dict) -> tuple[Study, list[str]]:
    """The study of a model under these conditions, on which its results depend; and sentences for the user.

    It is a new one, in which the block's own values are tried first, unless a search was begun under the same conditions.
    Raises `InputError` if the file of studies is damaged.
    """
    STORE.parent.mkdir(parents=True, exist_ok=True)
    name = f"{model}-{hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:12]}"
    url = f"sqlite:///{STORE}"
    try:
        summaries = optuna.get_all_study_summaries(url)
        known = {one.study_name: one.user_attrs.get("conditions", {}) for one in summaries}
        study = optuna.create_study(storage=url, study_name=name, direction="maximize", load_if_exists=True)
        count = len(study.trials)
    except Exception as error:  # of SQLAlchemy, or of Optuna where the tables are another version's
        raise InputError(
            f"{STORE} cannot be read: {type(error).__name__}: {error}. Type `rm -r {STORE.parent}`, which forgets all "
            "searches; DVC keeps what was trained."
        ) from None
    study.pruner = optuna.pruners.PercentilePruner(KEPT_PERCENT, MIN_COMPLETE, round(FIRST_PART * block["epochs"]))
    study.sampler = optuna.samplers.TPESampler(seed=count, constant_liar=True)  # the same seed would repeat values
    study.set_user_attr("conditions", conditions)
    notes = []
    earlier = [known[other] for other in known if other.startswith(f"{model}-") and known[other]]
    if name not in known and earlier:
        changed = [key for key in earlier[-1] | conditions if earlier[-1].get(key) != conditions.get(key)]
        why = f"these changed since the last one, whose table it replaces: {', '.join(changed)}"
        notes.append(f"a new search of {model} begins, because {why}.")
    if all(block[key] in one for key, one in ranges.items()):
        study.enqueue_trial({key: as_stored(block[key]) for key in ranges}, skip_if_exists=True)
    else:
        notes.append(f"the present block of {model} lies outside of its ranges, and is no trial.")
    return study, notes


def propose(trial: Trial, ranges: dict[str, Range]) -> dict[str, Any]:
    """The values that a trial tries, which it keeps as attributes. If it has some already, they are the same."""
    values = {}
    for key, one in ranges.items():
        if isinstance(one, tuple):
            chosen = trial.suggest_categorical(key, [as_stored(value) for value in one])
            values[key] = next(value for value in one if as_stored(value) == chosen)
        elif isinstance(one.low, int):
            values[key] = trial.suggest_int(key, one.low, one.high, log=one.log)
        else:
            number = float(f"{trial.suggest_float(key, one.low, one.high, log=one.log):.{DIGITS}g}")
            values[key] = min(max(number, one.low), one.high)
        trial.set_user_attr(key, values[key])
    return values


def as_stored(value: Any) -> Any:
    """A value of a block's key as Optuna keeps it: lists as JSON."""
    return json.dumps(value) if isinstance(value, list) else value


def report(trial: Trial, epochs: int, history: str) -> None:
    """Tell the study of a running trial, whose training of so many `epochs` has this `history` so far, as CSV.

    Raises `optuna.TrialPruned` if the trial should be stopped: never where `epochs` is searched, since trials of other
    lengths are not equally far in their schedules of the learning rate.
    """
    accuracies, told = pd.read_csv(io.StringIO(history))["val_accuracy"], trial.user_attrs.get("trained_epochs", 0)
    for epoch in range(told, len(accuracies)):
        trial.report(accuracies[epoch], epoch)
    trial.set_user_attr("trained_epochs", max(told, len(accuracies)))
    if "epochs" not in trial.params and len(accuracies) < epochs and trial.should_prune():
        raise optuna.TrialPruned


def ended(study: Study) -> list[FrozenTrial]:
    """The trials that ended, in whatever way."""
    return [one for one in study.get_trials(deepcopy=False) if one.state.is_finished()]


def best(study: Study, block: dict, ranges: dict[str, Range], count: int) -> dict[str, dict[str, Any]]:
    """The values of the best complete trials, which differ from each other and from a block's, by `trial NUMBER`."""
    found: dict[str, dict] = {}
    for trial in sorted(study.get_trials(states=(TrialState.COMPLETE,)), key=lambda trial: -trial.value):
        values = {key: trial.user_attrs[key] for key in ranges}
        if len(found) < count and values not in found.values() and not values.items() <= block.items():
            found[f"trial {trial.number}"] = values
    return found


def table(study: Study) -> pd.DataFrame:
    """One row per trial: what became of it, its last validation accuracy (0 to 1), and its values.

    `seconds` are few if DVC's cache had its result; `reason` is that of a failure.
    """
    found = study.trials_dataframe(("number", "value", "duration", "user_attrs", "state"))
    found["duration"] = found["duration"].dt.total_seconds()
    found["state"] = found["state"].str.lower()
    found.columns = found.columns.str.removeprefix("user_attrs_")
    return found.rename(columns={"value": "val_accuracy", "duration": "seconds"})
