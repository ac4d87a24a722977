"""Make the environment `.venv` and install the pinned packages: `python3 -I stages/install.py`; `make` calls it.

`--dev` also installs what tests and developers need, `--app` what `make app` needs, `--parallel` what `make run JOBS=4`
needs. If everything is installed already, it does nothing. If the project's folder was moved, it repairs the environment.
This file runs with Python 3.7 or later; the environment is made with a Python from 3.11 to 3.13, which it looks for.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ENVIRONMENT = Path(".venv")
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / "installed.json"
CANDIDATES = ("python3", "python3.13", "python3.12", "python3.11", "python")
OLDEST, NEWEST = (3, 11), (3, 13)
# Without bytecode: Python writes it when a module is first imported, and most modules of the packages never are.
PIP_INSTALL = ("install", "--quiet", "--disable-pip-version-check", "--no-compile")
PARTS = 4  # processes that install at once, at most

# The settings of pip, from environment variables and configuration files, that are kept: where and how to get packages.
# The others (`user`, `target`, `constraint`, `no-deps` ...) would install other packages, or install them elsewhere.
PIP_SETTINGS = (
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "client-cert", "proxy", "timeout",
    "default-timeout", "retries", "resume-retries", "cache-dir", "no-cache-dir", "keyring-provider", "use-feature",
    "use-deprecated", "prefer-binary", "log", "verbose", "no-input",
)  # fmt: skip
UV_SETTINGS = (
    "UV_CACHE_DIR", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_HTTP_TIMEOUT", "UV_INDEX",
    "UV_INDEX_URL", "UV_INSECURE_HOST", "UV_KEYRING_PROVIDER", "UV_NATIVE_TLS", "UV_NO_CACHE", "UV_NO_INDEX", "UV_OFFLINE",
    "UV_SYSTEM_CERTS",
)  # fmt: skip


def fail(sentence: str) -> None:
    """Exit with an error message and status 1."""
    sys.exit("error: " + sentence)


def prints(*command: object) -> str | None:
    """The output of a command, without surrounding white space; None if it cannot be run or fails."""
    try:
        done = subprocess.run(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()


def version(python: object) -> tuple[int, int] | None:
    """The version of a Python, such as (3, 12); None if it does not run."""
    found = prints(python, "-I", "-c", "import sys; print(*sys.version_info[:2])")
    return None if found is None else (int(found.split()[0]), int(found.split()[1]))


def supported(python: object) -> bool:
    """Whether a Python runs and has a version that the pinned packages support."""
    found = version(python)
    return found is not None and OLDEST <= found <= NEWEST


def make_environment() -> None:
    """Make `.venv` with the first tool that works: venv, virtualenv or uv. Exits with an error if none works."""
    pythons = [name for name in CANDIDATES if supported(name)]
    uv = shutil.which("uv")
    ways: list[list[str]] = []
    for python in pythons:
        if prints(python, "-I", "-c", "import venv, ensurepip") is not None:
            ways.append([python, "-I", "-m", "venv", "--clear"])
    for python in pythons:
        if prints(python, "-I", "-m", "virtualenv", "--version") is not None:
            ways.append([python, "-I", "-m", "virtualenv", "--quiet", "--clear"])
    if uv:
        chosen = pythons[0] if pythons else "{}.{}".format(*NEWEST)  # uv can download one
        ways.append([uv, "venv", "--quiet", "--no-project", "--clear", "--python", chosen])
    for python in pythons:
        if (
            prints(python, "-I", "-c", "import venv") is not None
            and prints(python, "-m", "pip", "--version") is not None
        ):
            ways.append([python, "-I", "-m", "venv", "--clear", "--without-pip"])
    for way in ways:
        print("Making {}: {}".format(ENVIRONMENT, " ".join(way)), flush=True)
        made = subprocess.run([*way, str(ENVIRONMENT)], env=clean_environment(), check=False).returncode == 0
        if made and supported(PYTHON) and installer() is not None:
            return
    if not pythons:
        fail(
            "no Python from {}.{} to {}.{} was found ({}). Install one, for example with `sudo apt install python3 "
            "python3-venv` or from https://www.python.org, and type the command again.".format(
                *OLDEST, *NEWEST, prints("python3", "--version") or "no python3 at all"
            )
        )
    fail(
        f"{pythons[0]} cannot make an environment: it has no module venv with ensurepip and no virtualenv, and uv is not "
        "installed. Type `sudo apt install python3-venv` (Debian, Ubuntu) or `pip install virtualenv`, then type the "
        "command again."
    )


def installer() -> list[str] | None:
    """The command that installs into `.venv`: its own pip, uv, or the pip of another Python; None if there is none."""
    if prints(PYTHON, "-I", "-m", "pip", "--version") is not None:
        return [str(PYTHON), "-I", "-m", "pip", *PIP_INSTALL]
    if shutil.which("uv"):
        return ["uv", "pip", "install", "--quiet", "--python", str(PYTHON)]
    for python in CANDIDATES:
        if prints(python, "-m", "pip", "--python", PYTHON, "--version") is not None:
            return [python, "-m", "pip", "--python", str(PYTHON), *PIP_INSTALL]
    return None


def clean_environment() -> dict[str, str]:
    """This process's environment variables without those of Python, pip, virtualenv and uv, except `UV_SETTINGS`."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "PYTHON", "UV_", "VIRTUALENV_")) or name in UV_SETTINGS
    }


def pip_environment() -> dict[str, str]:
    """The clean environment, with the user's `PIP_SETTINGS` from environment variables and configuration files."""
    environment = clean_environment()
    listed = (
        prints(PYTHON, "-I", "-m", "pip", "config", "list") or prints("python3", "-m", "pip", "config", "list") or ""
    )
    for name, value in re.findall(r"(?m)^(?:global|install|:env:)\.([\w-]+)=(.*)$", listed):
        if name in PIP_SETTINGS:
            environment["PIP_" + name.upper().replace("-", "_")] = " ".join(str(ast.literal_eval(value)).split())
    return {**environment, "PIP_CONFIG_FILE": os.devnull}


def install_in_parts(command: list[str], requirements: Path) -> bool:
    """Install the packages that a file pins by several processes of pip at once; return whether nothing is missing then.

    Only for an environment without packages: a process that replaces one could be in the way of another.
    """
    lines = [line.split(" #")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    count = min(PARTS, os.cpu_count() or 1, len(lines))
    if command[0] == "uv" or count < 2 or any(line.startswith("-") or line.endswith("\\") for line in lines):
        return False
    environment = pip_environment()
    processes = [
        subprocess.Popen([*command, "--no-deps", *lines[number::count]], env=environment, stderr=subprocess.DEVNULL)
        for number in range(count)
    ]
    statuses = [process.wait() for process in processes]
    return not any(statuses) and prints(*command[: command.index("install")], "check") is not None


def install(requirements: Path, empty: bool) -> None:
    """Install the packages that a file pins into `.venv`, which may be `empty`. Exits with an error if that fails."""
    command = installer()
    if command is None:
        make_environment()
        command = installer() or []
    print(f"Installing the packages of {requirements} (only once; takes some minutes)", flush=True)
    if empty and install_in_parts(command, requirements):
        return
    done = subprocess.run([*command, "--requirement", str(requirements)], env=pip_environment(), check=False)
    if done.returncode:
        fail(
            "the packages could not be installed; the cause is printed above. Without a network, set `PIP_NO_INDEX=1 "
            "PIP_FIND_LINKS=FOLDER` to install them from a folder."
        )


def move_scripts(was: str, now: str) -> None:
    """Make the commands in `.venv/bin` independent of the path of `.venv`, and set the new path in `activate`.

    Installers write the absolute path of Python into the first line of a command. It is replaced by a shell command that
    runs the `python` in the same folder. Python reads that line as a string; pip uses the same technique for paths with a
    space.

    Args:
        was: The path of `.venv` in the `activate` scripts.
        now: The current path of `.venv`.
    """
    here = "#!/bin/sh\n'''exec' \"$(dirname -- \"$0\")/python\" \"$0\" \"$@\"\n' '''\n"
    for path in (ENVIRONMENT / "bin").iterdir():
        if path.is_symlink() or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a program
            continue
        if path.name in ("activate", "activate.csh", "activate.fish"):
            spelled = next((form for form in (f'"{was}"', shlex.quote(was), was) if form in text), None)
            changed = text.replace(spelled, shlex.quote(now)) if spelled else text
        else:
            pip_line = r"\A#!/bin/sh\n'''exec' .*\n' '''\n"
            changed = re.sub(pip_line + r"|\A#!.*python[\d.]*\n", lambda _: here, text)
        if changed != text:
            path.write_text(changed, encoding="utf-8")


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    if os.pathsep in str(Path.cwd()):
        fail(
            f"the path of this folder, {Path.cwd()}, holds a `{os.pathsep}`, in which no environment can lie: rename it."
        )
    own = str(PYTHON.parent.resolve())  # `make` puts it first, but `.venv` cannot be made with its own Python
    os.environ["PATH"] = os.pathsep.join(part for part in os.get_exec_path() if os.path.realpath(part) != own)
    kinds = [kind for kind in ("dev", "app", "parallel") if f"--{kind}" in sys.argv[1:]]
    files = [Path("requirements.txt"), *(Path(f"requirements-{kind}.txt") for kind in kinds)]
    wanted = {path.name: digest(path) for path in files}
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stamp = {}
    now = str(Path.cwd() / ENVIRONMENT)
    runs = supported(PYTHON)
    if runs and stamp.get("environment") == now and {**stamp["packages"], **wanted} == stamp["packages"]:
        return
    if not runs and ENVIRONMENT.exists():
        print(f"{ENVIRONMENT} has no working Python from 3.11 to 3.13: it is made anew", flush=True)
    if not runs:
        stamp = {}
        make_environment()
    packages = stamp.get("packages", {})
    if {**packages, **wanted} != packages:
        STAMP.unlink() if STAMP.exists() else None  # so that an interrupted installation continues the next time
        for number, file in enumerate(files[1:] or files):  # each of the others includes the first
            install(file, empty=not runs and number == 0)
        packages = {**packages, **wanted} if packages.get(files[0].name) == wanted[files[0].name] else wanted
    move_scripts(stamp.get("environment", now), now)
    with tempfile.NamedTemporaryFile("w", dir=str(ENVIRONMENT), delete=False, encoding="utf-8") as beside:
        json.dump({"environment": now, "packages": packages}, beside)
    os.chmod(beside.name, 0o644)  # another user of this folder may read it
    os.replace(beside.name, str(STAMP))


if __name__ == "__main__":
    main()
