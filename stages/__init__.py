"""The pipeline. Every file in this folder can be run (`python -m stages.NAME`). The folders hold the code they share."""

from stages.common import environment, late

environment.refuse_another_python()
IGNORED = environment.settle()  # names of environment variables that are removed, so that they have no effect
late.load_when_used(
    "stages.benchmark.measure", "stages.explanation.", "stages.inference.", "stages.layers.", "stages.training."
)
