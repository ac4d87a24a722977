"""The environment is made on any machine: whatever pip's settings say, however it can be made, wherever the folder lies."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

BASE = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
HAS_PIP = subprocess.run([BASE, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
HAS_VENV = subprocess.run([BASE, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode == 0
needs_venv = pytest.mark.skipif(not HAS_VENV, reason="this Python cannot make an environment by itself")

METADATA = "Metadata-Version: 2.1\nName: {}\nVersion: {}\n{}"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def make_wheel(folder: Path, version: str, package: str = "tiny", needs: str = "") -> str:
    """A package with a command of its name, which says its version; returns the line that requires it."""
    name, info = f"{package}-{version}-py3-none-any.whl", f"{package}-{version}.dist-info"
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr(f"{package}.py", f"def main():\n    print('{package} {version}')\n")
        archive.writestr(
            f"{info}/METADATA", METADATA.format(package, version, f"Requires-Dist: {needs}\n" if needs else "")
        )
        archive.writestr(f"{info}/WHEEL", WHEEL)
        archive.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{package} = {package}:main\n")
        archive.writestr(f"{info}/RECORD", "")
    return f"./{name}\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A project's folder with a package to install, and a folder `commands` with the one Python that is found."""
    project = tmp_path / "a $HOME folder, müde"
    (project / "stages").mkdir(parents=True)
    shutil.copy(ROOT / "stages" / "install.py", project / "stages")
    for name in ("requirements.txt", "requirements-dev.txt"):
        (project / name).write_text(make_wheel(project, "1.0"))
    (tmp_path / "commands").mkdir()
    for command in ("sh", "dirname", "env"):
        (tmp_path / "commands" / command).symlink_to(shutil.which(command))
    found_python(tmp_path, "")
    return project


def found_python(folder: Path, fails: str) -> None:
    """Put a `python3` into `commands` that fails where its arguments hold one of these words, parted by `|`."""
    path = folder / "commands" / "python3"
    refusal = f'case "$*" in {fails}) exit 1;; esac\n' if fails else ""
    path.write_text(f'#!/bin/sh\n{refusal}exec "{BASE}" "$@"\n')
    path.chmod(0o755)


def install(project: Path, *options: str, succeeds: bool = True, **variables: str) -> str:
    """Run the installer with just the commands of `commands`; returns what it wrote."""
    kept = {"PATH": str(project.parent / "commands"), "HOME": str(project.parent)}
    done = subprocess.run(
        [BASE, "-I", "stages/install.py", *options],
        cwd=project,
        env=kept | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == succeeds, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def tiny(project: Path) -> str:
    """What the installed command says."""
    return subprocess.run([project / ".venv/bin/tiny"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.fault(
    "`PIP_USER`, `PIP_TARGET` or pip's configuration put the packages elsewhere; a move of the project's folder breaks "
    "`.venv`; its name holds spaces, umlauts or a `$`.",
    "The packages lie in `.venv`, which moves along.",
)
@needs_venv
def test_it_installs_once_whatever_pips_settings_say_and_survives_a_move(folder, tmp_path):
    (tmp_path / "pip.conf").write_text(f"[global]\nuser = true\n[install]\ntarget = {tmp_path / 'elsewhere'}\n")
    settings = {"PIP_USER": "1", "PIP_TARGET": str(tmp_path / "other"), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    settings |= {"PIP_REQUIRE_HASHES": "1", "PIP_DRY_RUN": "1", "PIP_CONSTRAINT": "/nonexistent"}
    assert "Making .venv" in install(folder, **settings)
    assert tiny(folder) == "tiny 1.0"
    assert not (tmp_path / "elsewhere").exists()
    assert install(folder, **settings) == ""

    moved = tmp_path / "moved"
    folder.rename(moved)
    assert install(moved, PIP_NO_INDEX="1") == ""  # without pip
    assert tiny(moved) == "tiny 1.0"
    shell = subprocess.run(
        ["sh", "-c", '. .venv/bin/activate; command -v tiny; echo "$VIRTUAL_ENV"'],
        cwd=moved,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.split("\n")[:2] == [str(moved / ".venv/bin/tiny"), str(moved / ".venv")]

    (moved / "requirements-dev.txt").write_text(make_wheel(moved, "2.0"))
    assert "requirements-dev.txt" in install(moved, "--dev")
    assert tiny(moved) == "tiny 2.0"
    assert install(moved, "--dev") == install(moved) == ""


@pytest.mark.fault(
    "`requirements.txt` was edited by hand, and does not name what a package needs.", "That is installed, too."
)
@needs_venv
def test_what_packages_need_is_installed_although_no_line_names_it(folder, tmp_path):
    make_wheel(tmp_path, "1.0", "needed")
    lines = [
        make_wheel(folder, "1.0", name, needs) for name, needs in (("tiny", ""), ("other", "needed"), ("third", ""))
    ]
    (folder / "requirements.txt").write_text("# by hand\n" + "".join(lines))
    assert "Making .venv" in install(folder, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert tiny(folder) == "tiny 1.0"
    assert {path.name for path in (folder / ".venv/bin").iterdir()} >= {"needed", "other", "third"}
    assert install(folder) == ""


@pytest.mark.fault(
    "A hosted notebook's Python has no `ensurepip`.",
    "Another pip installs into `.venv`.",
)
@needs_venv
@pytest.mark.skipif(not HAS_PIP, reason="this Python has no pip outside an environment")
def test_a_python_without_ensurepip_lends_its_own_pip(folder, tmp_path):
    found_python(tmp_path, "*ensurepip*|*virtualenv*")
    assert "--without-pip" in install(folder)
    assert tiny(folder) == "tiny 1.0"


@pytest.mark.fault(
    "A Python cannot make an environment at all.",
    "virtualenv or uv does.",
)
@pytest.mark.skipif(shutil.which("uv") is None or shutil.which("uv").endswith("shims/uv"), reason="no uv here")
def test_a_python_that_cannot_make_an_environment_leaves_it_to_uv(folder, tmp_path):
    found_python(tmp_path, "*venv*|*virtualenv*")
    (tmp_path / "commands" / "uv").symlink_to(shutil.which("uv"))
    assert "uv venv" in install(folder)
    assert tiny(folder) == "tiny 1.0"


@pytest.mark.fault(
    "No Python, or none that is supported, or no way to make an environment.",
    "A sentence says what to install.",
)
def test_what_is_missing_is_told_with_what_to_type(folder, tmp_path):
    found_python(tmp_path, "*venv*|*virtualenv*")
    output = install(folder, succeeds=False)
    assert output.startswith("error: python3 cannot make an environment")
    assert "sudo apt install python3-venv" in output
    (tmp_path / "commands" / "python3").write_text(
        "#!/bin/sh\ntest \"$1\" = --version && echo 'Python 3.9.1' || echo 3 9\n"
    )
    output = install(folder, succeeds=False)
    assert "error: no Python from 3.11 to 3.13 was found (Python 3.9.1)" in output


@pytest.mark.fault(
    "An installation breaks off.",
    "It goes on the next time.",
)
@needs_venv
def test_a_package_that_cannot_be_had_is_told_and_asked_for_again(folder):
    install(folder)
    (folder / "requirements.txt").write_text("no-such-package-here==1.0\n")
    output = install(folder, succeeds=False, PIP_NO_INDEX="1")
    assert "error: the packages could not be installed" in output
    (folder / "requirements.txt").write_text(make_wheel(folder, "1.0"))  # as before, but who knows what was done since
    assert "Installing the packages" in install(folder)
    assert tiny(folder) == "tiny 1.0"


@pytest.mark.fault(
    "The Python that made `.venv` is gone.",
    "It is made anew.",
)
@needs_venv
def test_an_environment_whose_python_is_gone_is_made_anew(folder):
    install(folder)
    for path in (folder / ".venv/bin").glob("python*"):
        path.unlink()
    assert "made anew" in install(folder)
    assert tiny(folder) == "tiny 1.0"
    assert os.listdir(folder / ".venv/bin").count("tiny") == 1


@pytest.mark.fault("The folder's name holds a `:`, in which no environment can lie.", "The sentence says so.")
def test_a_folder_in_which_no_environment_can_lie_is_told(folder):
    project = folder.with_name("a:b")
    folder.rename(project)
    assert "a:b, holds a `:`, in which no environment can lie: rename it" in install(project, succeeds=False)
