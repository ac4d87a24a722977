"""The models, one file an architecture: the file's name is the model's name.

Each file holds

- `Parameters`, a subclass of `stages.parameters.ModelParameters`: the keys of the model's block in `params.yaml`;
- `build(parameters, images) -> keras.Model`, from pictures of shape (B, 28, 28, 1) with pixels 0-255 to logits of shape
  (B, 10). `images` are the training pictures, uint8 (N, 28, 28, 1), for statistics such as the mean pixel.

`keras` is imported inside `build`, because the parameters are also read by stages that have no need of TensorFlow, which
takes seconds to load.
"""

import importlib
from pathlib import Path
from types import ModuleType

from stages.errors import InputError

ENSEMBLE = "ensemble"  # the row of soft voting in tables of models: no model's name


def names() -> list[str]:
    """The models that have a file here, sorted."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[a-zA-Z]*.py"))


def load(name: str) -> ModuleType:
    """The module `stages.models.NAME`. Raises `InputError` where it cannot be loaded or lacks one of the two parts."""
    file = f"stages/models/{name}.py"
    try:
        module = importlib.import_module(f"stages.models.{name}")
    except Exception as error:  # whatever a file under work may hold
        raise InputError(f"{file} cannot be loaded: {type(error).__name__}: {error}. Mend it, or remove it.") from error
    for part in ("Parameters", "build"):
        if not callable(getattr(module, part, None)):
            raise InputError(
                f"{file} has no {part}; stages/models/__init__.py says what it must hold, mlp.py is an example."
            )
    return module
