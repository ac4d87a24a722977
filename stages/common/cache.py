"""DVC's settings, its cache and what `dvc.lock` records, read without DVC, whose import takes a second.

DVC never verifies a file in its cache: a damaged one replaces the deleted file, and even the result of a stage that runs
again. `remedy` says what to type instead.
"""

import configparser
import hashlib
import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import platformdirs

WHOLE_RUN = re.compile(r"^cmd: .*\n(?:.*\n)*outs:\n(?:- path: .*\n(?:  \w+: .+\n)*  md5: .+\n(?:  \w+: .+\n)*)+\Z")


class Recorded(NamedTuple):
    """What `dvc.lock` records of a result: its MD5, which ends with `.dir` for a folder, and its size in bytes."""

    md5: str
    size: int


def setting(folder: Path, section: str, key: str) -> str:
    """A value in DVC's configuration of a project's folder; empty if there is none."""
    where = os.environ.get("DVC_GLOBAL_CONFIG_DIR", "")
    if not where and os.path.expanduser("~") != "~":  # otherwise the system does not know the user's home
        where = platformdirs.user_config_dir("dvc", "iterative")
    for path in (folder / ".dvc/config.local", folder / ".dvc/config", *([Path(where) / "config"] if where else [])):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # DVC says what is wrong
        if parser.has_option(section, key):
            return parser[section][key].strip("'\"")
    return ""


def cache_folder(folder: Path) -> Path:
    """The folder of DVC's cache; a relative one in its configuration is relative to `.dvc`."""
    return Path(os.path.normpath(folder / ".dvc" / (setting(folder, "cache", "dir") or "cache")))


def digest(path: Path) -> str:
    """The MD5 of a file, as DVC records it; empty if there is none."""
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return ""


def recorded() -> dict[str, Recorded]:
    """What `dvc.lock` records of all results, by path."""
    lock = Path("dvc.lock")
    text = lock.read_text(encoding="utf-8", errors="replace") if lock.exists() else ""
    found = {}
    for results in re.findall(r"(?m)^    outs:\n((?:    (?:-|  ).*\n)*)", text):
        for entry in re.split(r"(?m)^    - ", results)[1:]:
            values = dict(re.findall(r"(?m)^ *(\w+): (.*)$", entry))
            if {"path", "md5", "size"} <= set(values) and values["size"].isdecimal():
                found[values["path"].strip("'\"")] = Recorded(values["md5"].strip("'\""), int(values["size"]))
    return found


def remove_damaged_runs() -> str:
    """Remove damaged entries of DVC's cache of runs, at which `dvc repro` fails; DVC runs their stages again.

    Returns:
        A sentence that says what was done; empty if nothing had to be.
    """
    entries = cache_folder(Path.cwd()).glob(f"runs/*/*/{'[0-9a-f]' * 64}")
    damaged = [entry for entry in entries if not WHOLE_RUN.search(entry.read_text("utf-8", "replace"))]
    for entry in damaged:
        entry.unlink()
    return f"{len(damaged)} damaged entries of DVC's cache of runs were removed." if damaged else ""


def remedy(path: Path) -> str:
    """What to type when a file of the project is damaged: so that it and its copy in DVC's cache are right again."""
    known, damaged = recorded().get(Path(os.path.relpath(path)).as_posix()), []
    if known:
        copy = cache_folder(Path.cwd()) / "files/md5" / known.md5[:2] / known.md5[2:]
        damaged = [copy] if digest(copy) not in {"", known.md5} else []
    where = [Path(os.path.relpath(copy)) if copy.is_relative_to(Path.cwd()) else copy for copy in damaged]
    too = "Its copy in DVC's cache is damaged, too: type" if damaged else "Type"
    return f"{too} `{shlex.join(['rm', '-f', *map(str, [path, *where])])}`, then `dvc repro`."
