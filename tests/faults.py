"""Writes `tests/README.md`, the faults that tests are marked with (`pytest.mark.fault`): `make readme` calls it."""

import ast
from pathlib import Path

from tabulate import tabulate

TESTS = Path(__file__).parent
README = TESTS / "README.md"

HEAD = """# Tests

`make test` runs them: offline, from a fresh clone, on small data that they make; where the publisher's files lie on this
machine, a few use them. `make verify` runs those that compare what is committed with itself, which fail on a machine with
other results. The tests have models of their own, in `tests/models`: each of the project's may be removed.

The table says what can go wrong, and what happens instead: one row per fault, with the test that fails without the remedy.
`make readme` writes it from the tests' marks.
"""


def faults() -> list[tuple[str, str, str]]:
    """One row per marked test, in the order of the files: what goes wrong, what happens, the test."""
    rows = []
    for path in sorted(TESTS.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    wrong, happens = (ast.literal_eval(argument) for argument in mark.args)
                    rows.append((wrong, happens, f"`{path.name}::{node.name}`"))
    return rows


def readme() -> str:
    """The text of `tests/README.md`."""
    table = tabulate(faults(), ("what goes wrong", "what happens", "test"), tablefmt="pipe", disable_numparse=True)
    return f"{HEAD}\n{table}\n"


if __name__ == "__main__":
    README.write_text(readme(), encoding="utf-8", newline="\n")
