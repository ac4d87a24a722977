"""The study of a search: its trials, kept by Optuna in a file that outlives the process, and what comes next.

Trials are proposed by the tree-structured Parzen estimator. Sources: Bergstra et al., "Algorithms for Hyper-Parameter
Optimization" (2011); Akiba et al., "Optuna" (2019). Its seed is fixed; but of trials that run at once, the one that ends
first decides on what the estimator knows, so that two searches propose different values, unless one trial runs at a time.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from stages.common.errors import InputError
from stages.tuning.ranges import Choice, Range

optuna.logging.set_verbosity(optuna.logging.WARNING)

# SQLite: a process that is killed while it writes leaves a file that can be read, and no lock. Outside of DVC's results.
STORE = Path(".dvc/tmp/search/study.db")
SEED = 0  # of what is proposed

# A trial is stopped if its best validation accuracy so far is among the worst quarter of that of earlier trials at the same
# point: a milder form of the median stopping rule of Golovin et al., "Google Vizier" (2017). Points are tenths of a run:
# trials with other `epochs` are compared where they are equally far in their schedule of the learning rate. Not before
# `WARMUP`, since until the learning rate has fallen, low rates look better than they are: Wu et al., "Understanding
# Short-Horizon Bias in Stochastic Meta-Optimization" (2018). Measured with ten trials of sprint: the rank correlation there
# with the final accuracy is 0.6, and half of the trials would have been too many, the block of sprint among them.
POINTS = 10
WARMUP = 6
ENDED = 8  # not before so many trials are complete
KEPT = 75  # percent

# What became of a trial. `interrupted`: the search was stopped while it ran; its values are tried again.
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.RUNNING: "running"}


def open_study(model: str, conditions: Mapping[str, Any]) -> Study:
    """The study of a model under these conditions: a new one, unless a search was begun under the very same conditions.

    Trials that were running when a search was stopped are noted as interrupted, and their values are tried again.

    Args:
        model: Its name.
        conditions: All that a trial's result depends on, except what is searched; as JSON has it.

    Raises:
        InputError: The file of studies is damaged.
    """
    STORE.parent.mkdir(parents=True, exist_ok=True)
    rules = [SEED, POINTS, WARMUP, ENDED, KEPT]
    digest = hashlib.sha256(json.dumps([conditions, rules], sort_keys=True).encode()).hexdigest()[:12]
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{STORE}",
            study_name=f"{model}-{digest}",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.PercentilePruner(KEPT, n_startup_trials=ENDED, n_warmup_steps=WARMUP),
        )
        before = study.get_trials(deepcopy=False)
    except Exception as error:  # of SQLAlchemy, or of Optuna where the tables are another version's
        raise InputError(
            f"{STORE} cannot be read: {type(error).__name__}: {error}. Type `rm -r {STORE.parent}`, which forgets all "
            "searches; DVC keeps what was trained."
        ) from None
    # The same seed again would propose the same values again.
    study.sampler = optuna.samplers.TPESampler(seed=SEED + len(before), constant_liar=True)
    for trial in before:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                study.enqueue_trial(trial.params)
    return study


def propose(study: Study, ranges: Mapping[str, Range]) -> Trial:
    """A new trial; its attribute `values` holds the value of each key."""
    trial = study.ask({key: distribution(one) for key, one in ranges.items()})
    trial.set_user_attr("values", {key: meaning(ranges[key], value) for key, value in trial.params.items()})
    return trial


def propose_first(study: Study, ranges: Mapping[str, Range], block: Mapping[str, Any]) -> bool:
    """Try a block's own values first, if nothing was tried before; return whether they are in the ranges."""
    inside = all(block[key] in one for key, one in ranges.items())
    if inside and not study.get_trials(deepcopy=False):
        study.enqueue_trial(
            {key: json.dumps(block[key]) if isinstance(one, Choice) else block[key] for key, one in ranges.items()}
        )
    return inside


def distribution(one: Range) -> BaseDistribution:
    """A range as Optuna has it."""
    if isinstance(one, Choice):
        return CategoricalDistribution(one.values)
    return (IntDistribution if one.whole else FloatDistribution)(one.low, one.high, log=one.log)


def meaning(one: Range, value: Any) -> Any:
    """The value of the block's key for a value of Optuna's."""
    return json.loads(value) if isinstance(one, Choice) else one.rounded(value)


def report(trial: Trial, accuracies: list[float], epochs: int) -> bool:
    """Tell the study of a running trial; return whether the trial should be stopped.

    Args:
        trial: From `propose`.
        accuracies: Validation accuracy after each epoch so far, 0 to 1.
        epochs: Of the whole run.
    """
    told = trial.user_attrs.get("epochs", 0)  # more than there are, if it began again on another worker
    for number in range(told + 1, len(accuracies) + 1):
        for point in range(POINTS * (number - 1) // epochs + 1, POINTS * number // epochs + 1):
            trial.report(accuracies[number - 1], point)
    trial.set_user_attr("epochs", max(told, len(accuracies)))
    return POINTS * len(accuracies) // epochs < POINTS and trial.should_prune()


def state(trial: FrozenTrial) -> str:
    """What became of a trial, in a word."""
    failed = "failed" if "reason" in trial.user_attrs else "interrupted"
    return failed if trial.state == TrialState.FAIL else STATES.get(trial.state, "waiting")


def ended(study: Study) -> list[FrozenTrial]:
    """The trials that came to an end of their own: complete, pruned and failed ones, not those that were interrupted."""
    return [one for one in study.get_trials(deepcopy=False) if state(one) in {"complete", "pruned", "failed"}]


def best(study: Study, count: int, block: Mapping[str, Any]) -> list[FrozenTrial]:
    """The best complete trials, by validation accuracy, whose values differ from each other and from a block's."""
    found: dict[str, FrozenTrial] = {}
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    for trial in sorted(complete, key=lambda trial: (-trial.value, trial.number)):
        values = trial.user_attrs["values"]
        if any(block[key] != value for key, value in values.items()):
            found.setdefault(json.dumps(values, sort_keys=True), trial)
    return list(found.values())[:count]


def table(study: Study, keys: list[str]) -> pd.DataFrame:
    """One row per trial.

    Returns:
        Columns number, from 0; state; val_accuracy, 0 to 1, of a pruned trial its last one; epochs; seconds, from the start
        of the trial's process to its end, few if DVC's cache had its result; model_md5, of the model's file; processor, on
        which it was trained; reason, of a failure; and the value of each of `keys`, lists as JSON.
    """
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if state(trial) == "waiting":
            continue
        told, values = trial.user_attrs, trial.user_attrs.get("values", {})
        last = trial.intermediate_values.get(trial.last_step) if state(trial) == "pruned" else None
        row = {"number": trial.number, "state": state(trial), "val_accuracy": trial.value if last is None else last}
        row |= {name: told.get(name) for name in ("epochs", "seconds", "model_md5", "processor", "reason")}
        row |= {key: cell(values[key]) for key in keys if key in values}
        rows.append(row)
    return pd.DataFrame(rows).astype({"epochs": "Int64"})


def cell(value: Any) -> Any:
    """A value of a parameter for a table: lists and null as JSON."""
    return json.dumps(value) if value is None or isinstance(value, list) else value


def importance(study: Study) -> dict[str, float]:
    """How much of the variation of validation accuracy each key explains, alone and with others; the sum is 1.

    Source: Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance" (2014). Pruned
    trials do not count. Empty if fewer than four trials are complete, or all are equally good.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 4 or len({trial.value for trial in complete}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=SEED)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)
