"""DVC's settings, its cache and what `dvc.lock` records, read without DVC, whose import takes a second.

DVC never verifies a file in its cache: a damaged one replaces the deleted file, and even the result of a stage that runs
again. `remedy` says what to type instead.
"""

import configparser
import hashlib
import os
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import platformdirs


class Recorded(NamedTuple):
    """What `dvc.lock` records of a result: its MD5, which ends with `.dir` for a folder, and its size in bytes."""

    md5: str
    size: int


def configurations(folder: Path) -> list[Path]:
    """The files of DVC's configuration for a project's folder, the first of which that has a value counts."""
    found = [folder / ".dvc/config.local", folder / ".dvc/config"]
    known = {
        "DVC_GLOBAL_CONFIG_DIR": platformdirs.user_config_dir,
        "DVC_SYSTEM_CONFIG_DIR": platformdirs.site_config_dir,
    }
    for variable, place_of in known.items():
        if os.environ.get(variable):
            found.append(Path(os.environ[variable]) / "config")
        elif os.path.expanduser("~") != "~":  # otherwise the system does not know the user's home
            found.append(Path(place_of("dvc", "iterative")) / "config")
    return found


def setting(folder: Path, section: str, key: str) -> tuple[str, Path]:
    """A value in DVC's configuration, empty if there is none, and the folder to which a relative path in it is relative."""
    for path in configurations(folder):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # DVC says what is wrong
        if parser.has_option(section, key):
            return parser[section][key].strip("'\""), path.parent
    return "", folder / ".dvc"


def works_without_git(folder: Path) -> bool:
    """Whether DVC is configured to work without git."""
    return setting(folder, "core", "no_scm")[0].lower() in {"true", "yes", "on", "1"}


def cache_folder(folder: Path) -> Path:
    """The folder of DVC's cache."""
    value, relative_to = setting(folder, "cache", "dir")
    return Path(os.path.normpath(relative_to / os.path.expanduser(value or "cache")))


def state_folder(folder: Path) -> Path:
    """The folder outside the project in which DVC keeps its databases of what it has hashed, for all projects."""
    usual = "/var/tmp/dvc" if sys.platform == "linux" else platformdirs.site_cache_dir("dvc", "iterative")
    return Path(os.environ.get("DVC_SITE_CACHE_DIR") or setting(folder, "core", "site_cache_dir")[0] or usual)


def links(folder: Path) -> bool:
    """Whether DVC is configured to link results to its cache, so that they take no space twice."""
    return bool(re.search("hardlink|symlink", setting(folder, "cache", "type")[0]))


def is_in_a_run(md5: str) -> bool:
    """Whether DVC's cache of runs has a result with this MD5."""
    return any(md5.encode() in path.read_bytes() for path in (cache_folder(Path.cwd()) / "runs").glob("*/*/*"))


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


def remedy(path: Path) -> str:
    """What to type when a file of the project is damaged: so that it and its copy in DVC's cache are right again."""
    known, damaged = recorded().get(Path(os.path.relpath(path)).as_posix()), []
    if known:
        copy = cache_folder(Path.cwd()) / "files/md5" / known.md5[:2] / known.md5[2:]
        damaged = [copy] if digest(copy) not in {"", known.md5} else []
    where = [Path(os.path.relpath(copy)) if copy.is_relative_to(Path.cwd()) else copy for copy in damaged]
    too = "Its copy in DVC's cache is damaged, too: type" if damaged else "Type"
    return f"{too} `{shlex.join(['rm', '-f', *map(str, [path, *where])])}`, then `dvc repro`."
