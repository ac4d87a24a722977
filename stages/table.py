"""Print the table of all models: `python -m stages.table`. With `--readme` (`make readme`), write the tables of README.md,
reports/benchmark.md and reports/experiments.md."""

import argparse

from stages.common.entry import entry_point
from stages.common.files import write_text
from stages.page.documents import updated
from stages.page.tables import for_terminal


@entry_point
def main() -> None:
    parser = argparse.ArgumentParser(description="Print the table of all models, or write the tables of documents.")
    parser.add_argument("--readme", action="store_true", help="write the tables of README.md and of reports/*.md")
    if parser.parse_args().readme:
        texts = updated()
        for path, text in texts.items():
            write_text(path, text)
        print(f"written: the tables of {', '.join(map(str, texts))}")
    else:
        print(for_terminal())


if __name__ == "__main__":
    main()
