"""Stage `check`: refuse a bad `params.yaml` before anything runs.

It stands first in `dvc.yaml`, reads the whole file and writes nothing. Were a mistyped key only found by the stage that
needs it, DVC would already have removed that stage's results, and perhaps trained another model for minutes.
"""

from pathlib import Path

from stages.errors import front_door
from stages.parameters import read_parameters
from stages.workspace import refuse_before_training


@front_door
def main() -> None:
    names = list(read_parameters("models"))
    refuse_before_training(Path.cwd())
    print(f"params.yaml is valid; models: {', '.join(names)}")


if __name__ == "__main__":
    main()
