"""What each model is, in the words of its file."""

import ast
from pathlib import Path

MODELS = Path(__file__).parents[1] / "models"


def description(model: str) -> str:
    """The first paragraph of the docstring of `stages/models/MODEL.py` on one line; "" if there is none.

    The file is parsed, not imported: Keras is not loaded.
    """
    try:
        text = ast.get_docstring(ast.parse((MODELS / f"{model}.py").read_text(encoding="utf-8")))
    except (OSError, SyntaxError, ValueError):
        return ""
    return " ".join((text or "").partition("\n\n")[0].replace("`", "").split())
