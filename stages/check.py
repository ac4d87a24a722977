"""Stage `check`: refuse a bad `params.yaml` before anything runs.

It stands first in `dvc.yaml`, reads the whole file and writes nothing. Were a mistyped key only found by the stage that
needs it, DVC would already have removed that stage's results, and perhaps trained another model for minutes.
"""

import re
from pathlib import Path

from stages.environment import versions
from stages.errors import front_door
from stages.parameters import read_parameters
from stages.workspace import refuse_before_training

REQUIREMENTS = Path("requirements.txt")


def other_versions(pins: str) -> list[str]:
    """Which packages are installed in another version than `requirements.txt` pins: `numpy 2.3.1 (2.4.6)`."""
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", pins, re.MULTILINE))
    return [
        f"{name} {found} ({pinned[name]})" for name, found in versions().items() if pinned.get(name, found) != found
    ]


@front_door
def main() -> None:
    names = list(read_parameters("models"))
    refuse_before_training(Path.cwd())
    others = other_versions(REQUIREMENTS.read_text(encoding="utf-8")) if REQUIREMENTS.exists() else []
    if others:
        print(f"note: other versions than the pinned ones, in brackets, give other digits: {', '.join(others)}.")
    print(f"params.yaml is valid; models: {', '.join(names)}")


if __name__ == "__main__":
    main()
