"""`.venv` is made and filled wherever the folder lies and whatever the settings of pip and uv say; offline."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stages import install

WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
INDEX = "https://index.invalid/simple"


def make_wheel(folder: Path, package: str, version: str = "1.0") -> None:
    """Make a package with a command of its name, which tells its version."""
    info = f"{package}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{package}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{package}_command.py", f"def main():\n    print('{package} {version}')\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", WHEEL)
        archive.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{package} = {package}_command:main\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: a project that requires the package tiny, which pip's configuration says where to find."""
    wheels, project = tmp_path / "wheels", tmp_path / "a $HOME folder, müde"
    wheels.mkdir()
    for package in ("tiny", "other", "pip", "setuptools", "wheel"):  # uv puts the last ones into an environment
        make_wheel(wheels, package)
    project.mkdir()
    (project / "requirements.txt").write_text("tiny==1.0\n")
    (project / "requirements-dev.txt").write_text("-r requirements.txt\nother==1.0\n")
    sources = f"find-links = {wheels}\nno-index = true\nindex-url = {INDEX}\n"
    (tmp_path / "pip.conf").write_text(f"[global]\n{sources}user = true\n[install]\ntarget = {tmp_path}/elsewhere\n")
    monkeypatch.chdir(project)
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        del os.environ[name]
    os.environ |= {"PIP_CONFIG_FILE": f"{tmp_path}/pip.conf", "HOME": str(tmp_path), "PYTHONHOME": "/nonexistent"}
    os.environ |= {"PIP_TARGET": f"{tmp_path}/elsewhere", "UV_WORKING_DIR": "/", "UV_SYSTEM_PYTHON": "1"}
    os.environ["PATH"] = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"  # developers' packages include uv
    yield project
    os.environ.clear()
    os.environ.update(before)


def installs(monkeypatch, *options: str) -> bool:
    """Run the installer with these options; return whether it had something to do: else it leaves all variables alone."""
    monkeypatch.setattr(sys, "argv", ["install.py", *options])
    os.environ.pop("UV_INDEX_URL", None)
    install.main()
    return os.environ.get("UV_INDEX_URL") == INDEX  # uv is told what pip's configuration says


def told_by(commands: str) -> str:
    """What commands print after `. .venv/bin/activate`, in a plain sh."""
    return subprocess.check_output(["sh", "-c", f". .venv/bin/activate; {commands}"], text=True).strip()


def test_it_installs_once_into_an_environment_that_moves_along(folder, tmp_path, monkeypatch):
    assert installs(monkeypatch)
    assert told_by("tiny") == "tiny 1.0"
    assert not installs(monkeypatch)
    assert installs(monkeypatch, "--dev")
    assert not installs(monkeypatch, "--dev")
    assert not (tmp_path / "elsewhere").exists()

    monkeypatch.chdir(folder.rename(tmp_path / "moved"))
    assert not installs(monkeypatch)
    assert told_by("tiny; other") == "tiny 1.0\nother 1.0"
    make_wheel(tmp_path / "wheels", "tiny", "10.0")  # longer: Python compares times, in seconds, and sizes
    Path("requirements.txt").write_text("tiny==10.0\n")
    assert installs(monkeypatch)
    assert not installs(monkeypatch, "--dev")  # what was there is kept up to date
    assert told_by("tiny; other") == "tiny 10.0\nother 1.0"


@pytest.mark.parametrize("lost", [install.STAMP, install.PYTHON])
def test_an_environment_that_is_not_whole_is_made_anew(folder, monkeypatch, lost):
    installs(monkeypatch)
    lost.unlink()
    (install.ENVIRONMENT / "left").touch()
    assert installs(monkeypatch)
    assert told_by("tiny") == "tiny 1.0"
    assert not (install.ENVIRONMENT / "left").exists()


def test_what_cannot_be_had_is_told_and_asked_for_again(folder, monkeypatch):
    installs(monkeypatch)
    Path("requirements.txt").write_text("no-such-package==1.0\n")
    with pytest.raises(SystemExit, match="the packages could not be installed"):
        installs(monkeypatch)
    Path("requirements.txt").write_text("tiny==1.0\n")  # as before, but who knows what was done since
    assert installs(monkeypatch)
    monkeypatch.setattr(install, "version", lambda python: None)
    monkeypatch.setattr(install, "find_uv", lambda: "")
    with pytest.raises(SystemExit, match="sqlite3"):
        installs(monkeypatch)


@pytest.mark.slow
def test_venv_and_pip_do_where_uv_cannot_be_had(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(install, "find_uv", lambda: "")
    assert installs(monkeypatch)
    assert not installs(monkeypatch)
    monkeypatch.chdir(folder.rename(tmp_path / "moved"))
    assert installs(monkeypatch)  # its commands named the old folder
    assert told_by("tiny") == "tiny 1.0"
    assert not (tmp_path / "elsewhere").exists()
