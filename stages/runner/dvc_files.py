"""DVC's configuration, its cache and `dvc.lock`, read without DVC, whose import takes a second."""

import configparser
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import platformdirs
import yaml

from stages.base.errors import Damaged

LOCK = Path("dvc.lock")


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8; empty if there is no file."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def setting(section: str, key: str) -> tuple[str, Path]:
    """A value in DVC's configuration, empty if there is none, and the folder to which a relative path in it is relative."""
    places = [Path(".dvc/config.local"), Path(".dvc/config")]
    for variable, place_of in (
        ("DVC_GLOBAL_CONFIG_DIR", platformdirs.user_config_dir),
        ("DVC_SYSTEM_CONFIG_DIR", platformdirs.site_config_dir),
    ):
        places.append(Path(os.environ.get(variable) or place_of("dvc", "iterative")) / "config")
    for path in places:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # DVC says what is wrong
        if parser.has_option(section, key):
            return parser[section][key].strip("'\""), path.parent
    return "", Path(".dvc")


def cache_folder() -> Path:
    """The folder of DVC's cache."""
    value, relative_to = setting("cache", "dir")
    return Path(os.path.abspath(relative_to / os.path.expanduser(value or "cache")))


def state_folder() -> Path:
    """The folder outside the project in which DVC keeps its databases of what it has hashed, for all projects."""
    usual = "/var/tmp/dvc" if sys.platform == "linux" else platformdirs.site_cache_dir("dvc", "iterative")
    return Path(os.environ.get("DVC_SITE_CACHE_DIR") or setting("core", "site_cache_dir")[0] or usual)


def digest(path: Path) -> str:
    """The MD5 of a file, as DVC records it; empty if there is none."""
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return ""


def read_lock(text: str) -> dict[str, Any]:
    """The entries of a lock file, by stage; raises `ValueError` if it is no lock file of DVC's."""
    try:
        content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
        return {name: entry | {} for name, entry in content["stages"].items()} if content else {}
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(str(error)) from None


def recorded() -> dict[str, dict]:
    """What `dvc.lock` records of all results, by path: `md5`, which ends with `.dir` for a folder, and `size` in bytes."""
    try:
        entries = read_lock(read_text(LOCK)).values()
    except ValueError:
        return {}  # DVC says what is wrong
    return {out["path"]: out for entry in entries for out in entry.get("outs", []) if {"md5", "size"} <= set(out)}


def refuse_damaged(found: dict[str, str]) -> None:
    """Raise `Damaged` if a file is not the result that `dvc.lock` records.

    DVC notices edits by a file's time and size, and runs the stage that made the file again; it does not notice damage.

    Args:
        found: The MD5 of files, by their paths in the project.
    """
    for path, known in recorded().items():
        if found.get(path, "") not in {"", known["md5"]}:
            raise Damaged(Path(path), f"its MD5 is {found[path]}, but dvc.lock records {known['md5']}")
