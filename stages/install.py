"""Make the environment `.venv` and install the pinned packages: `python3 -I stages/install.py`; `make` calls it.

`--dev` also installs what tests and developers need, `--app` what `make app` needs, `--parallel` what `make search` and
stages on other machines need. If everything is installed already, it does nothing. It uses uv, which takes seconds and
makes an environment that can be moved; where there is no uv, and pip cannot get it, venv and pip. This file runs with
Python 3.7 or later.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ENVIRONMENT = Path(".venv")
PYTHON = ENVIRONMENT / "bin" / "python"
PRIVATE_UV = ENVIRONMENT / "uv"  # the folder into which pip installs uv, if the machine has none
STAMP = ENVIRONMENT / "installed.json"  # written last: without it, `.venv` is made anew
CANDIDATES = ("python3", "python3.13", "python3.12", "python3.11", "python")
VERSIONS = ("3.11", "3.12", "3.13")
PIP_INSTALL = ("-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-compile")

# Only settings of where packages come from count. Others of pip and uv could install other packages, or install elsewhere.
SOURCES = re.compile("INDEX|FIND_LINKS|CERT|TLS|PROXY|HOST|TIMEOUT|CACHE|KEYRING|OFFLINE|UV_CONFIG_FILE|UV_PYTHON_[DI]")
PIP_FILES = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
UV_VARIABLES = {  # what uv calls settings of pip
    "PIP_INDEX_URL": "UV_INDEX_URL", "PIP_EXTRA_INDEX_URL": "UV_EXTRA_INDEX_URL", "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_NO_INDEX": "UV_OFFLINE", "PIP_CERT": "SSL_CERT_FILE", "PIP_PROXY": "ALL_PROXY",
}  # fmt: skip


def output(*command: object, stderr: int | None = subprocess.DEVNULL) -> str | None:
    """What a command prints, without white space at the end; None if it cannot be run or fails."""
    try:
        return subprocess.check_output(list(map(str, command)), stderr=stderr, encoding="utf-8").rstrip()
    except (OSError, subprocess.CalledProcessError):
        return None


def succeeds(*command: object) -> bool:
    """Run a command, whose errors are shown, and return whether it can be run and succeeds."""
    return output(*command, stderr=None) is not None


def version(python: object) -> str | None:
    """The version of a Python, such as `3.12`; None if it does not run, or lacks the module sqlite3, which DVC needs."""
    return output(python, "-ISc", "import sys, _sqlite3; print('%d.%d' % sys.version_info[:2])")


def keep_sources() -> None:
    """Leave of the settings of Python, pip and uv only where packages come from, in environment variables for both."""
    configuration = configparser.RawConfigParser()
    configuration.read([*map(os.path.expanduser, PIP_FILES), os.environ.get("PIP_CONFIG_FILE", "")], encoding="utf-8")
    for section in ("install", "global"):
        for name, value in configuration[section].items() if section in configuration else ():
            os.environ.setdefault("PIP_" + name.upper().replace("-", "_"), " ".join(value.split()))
    for name in list(os.environ):
        if name.startswith(("PIP_", "PYTHON", "UV_", "VIRTUAL_ENV")) and not SOURCES.search(name):
            del os.environ[name]
    for pip, uv in UV_VARIABLES.items():
        if pip in os.environ:
            os.environ.setdefault(uv, os.environ[pip].replace(" ", "," if pip == "PIP_FIND_LINKS" else " "))
    os.environ.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # as pip chooses among several indexes
    os.environ["PIP_CONFIG_FILE"] = os.devnull


def find_uv() -> str:
    """The command uv: of the machine, or of `PRIVATE_UV`, where pip installs it if there is none; empty if pip cannot."""
    private = str(PRIVATE_UV / "bin" / "uv")
    if not output("uv", "--version") and not output(private, "--version"):
        base = os.path.realpath(sys.executable)
        if output(base, *PIP_INSTALL, "--target", PRIVATE_UV, "uv") is None:  # it has no pip, as Debian's Python
            output(base, "-I", "-m", "venv", PRIVATE_UV)
            output(PRIVATE_UV / "bin" / "python", *PIP_INSTALL, "uv")
    return next((uv for uv in ("uv", private) if output(uv, "--version")), "")


def install(requirements: list[str], is_new: bool) -> bool:
    """Install packages into `.venv`, which is made if it `is_new`, and return whether uv did it; exits if nothing did."""
    uv = find_uv()
    python = next((name for name in CANDIDATES if version(name) in VERSIONS), "")
    chosen = shutil.which(python) or ">=3.11,<3.14"  # uv may have one, or get one
    venv = [uv, "venv", "--quiet", "--relocatable", "--seed", "--allow-existing", "--python", chosen, ENVIRONMENT]
    made = not is_new or (succeeds(*venv) and version(PYTHON))
    if made and succeeds(uv, "pip", "install", "--quiet", "--python", PYTHON, *requirements):
        return True
    made_again = not is_new or succeeds(python, "-I", "-m", "venv", "--clear", ENVIRONMENT)
    if made_again and succeeds(PYTHON, *PIP_INSTALL, *requirements):
        return False
    if made or made_again:
        sys.exit(
            "error: the packages could not be installed; the cause is printed above. An index takes a login from its "
            "address or ~/.netrc. Without a network, set `PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER` to install from a folder."
        )
    sys.exit(
        "error: .venv cannot be made without a Python from 3.11 to 3.13 with the modules sqlite3 and venv. Type, for "
        "example, `uv python install 3.13` (https://docs.astral.sh/uv says how to get uv) or, in Debian and Ubuntu, `sudo "
        "apt install python3-venv`, and type the command again."
    )


def main() -> None:
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stamp = {}
    is_new = stamp.get("python", "none") != version(PYTHON) or stamp["folder"] not in (None, os.getcwd())
    installed = {} if is_new else stamp["files"]
    asked = ["requirements.txt", *(f"requirements-{option[2:]}.txt" for option in sys.argv[1:])]
    digests = {name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in {*installed, *asked}}
    if all(installed.get(name) == digests[name] for name in asked):
        return
    print(f"Installing the packages of {', '.join(asked)} (only once; takes up to some minutes)", flush=True)
    if is_new:
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        stamp = {"folder": None}
    else:
        STAMP.unlink()  # of what a killed uv installs, files are missing, which it does not notice later
    keep_sources()
    by_uv = install([f"--requirement={name}" for name in digests], is_new)
    activate = ENVIRONMENT / "bin" / "activate"  # that of uv cannot know its path in a plain sh
    script = activate.read_text(encoding="utf-8")
    activate.write_text(script.replace('"$SCRIPT_PATH"', '"${SCRIPT_PATH:-.venv/bin/activate}"'), encoding="utf-8")
    stamp = {"python": version(PYTHON), "folder": stamp["folder"] if by_uv else os.getcwd(), "files": digests}
    STAMP.write_text(json.dumps(stamp), encoding="utf-8")


if __name__ == "__main__":
    main()
