"""A remote that a team shares: in a folder, at an SSH server, at a web server; and what `dvc gc` deletes there."""

import asyncio
import getpass
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest

from tests.conftest import ROOT, commit, ran, run
from tests.test_readme import DOCUMENTS

pytestmark = pytest.mark.slow
MAKE = ("make", "--file", str(ROOT / "Makefile"), "INSTALL=:")
PYTHON = f"PYTHON={shlex.quote(sys.executable)}"
GRAPH = """\
stages:
  make:
    cmd: mkdir folder && cp in out && echo x > folder/x && echo y > folder/y
    deps: [in]
    outs: [out, folder]
  score:
    cmd: wc -c < out > score
    deps: [out]
    metrics:
    - score: {cache: false}
"""


def change_data(project: Path, content: str) -> None:
    """Run the graph on other content."""
    (project / "in").write_text(content)
    run(project, "dvc", "repro", "--quiet")


def clone(project: Path, name: str) -> Path:
    run(project.parent, "git", "clone", "--quiet", str(project), name)
    return project.parent / name


@pytest.fixture
def alice(tmp_path) -> Path:
    """A small project after its first run, whose default remote is the folder `storage` beside it."""
    project = tmp_path / "alice"
    run(tmp_path, "git", "init", "--quiet", "--initial-branch", "main", "alice")
    run(project, "dvc", "init", "--quiet")
    (project / "dvc.yaml").write_text(GRAPH)
    run(project, "dvc", "config", "core.autostage", "true")
    run(project, "dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    change_data(project, "one")
    commit(project, "First run")
    return project


def stored(project: Path, content: str) -> Path | None:
    """The object in the remote with this text."""
    objects = (project.parent / "storage/files/md5").glob("??/*")
    return next((path for path in objects if path.read_bytes() == content.encode()), None)


def test_nothing_is_trained_after_a_pull(workspace, tmp_path):
    run(workspace, "dvc", "remote", "add", "--default", "storage", "../storage")
    commit(workspace, "Add a remote")
    run(workspace, *MAKE, PYTHON, "push")
    colleague = clone(workspace, "colleague")
    run(colleague, *MAKE, PYTHON, "pull")
    assert ran(run(colleague, "dvc", "repro")) == set()


@contextmanager
def ssh_server(key: asyncssh.SSHKey) -> Iterator[int]:
    """An SSH server with the files of this machine, for one key; yields its port."""
    loop = asyncio.new_event_loop()
    keys = asyncssh.import_authorized_keys(key.export_public_key().decode())
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    listen = asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[host_key], authorized_client_keys=keys, sftp_factory=True
    )
    server = loop.run_until_complete(listen)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.get_port()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_an_ssh_server_takes_results_and_runs_and_refuses_another_key(alice):
    key, other = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    for name, one in (("right", key), ("wrong", other)):
        one.write_private_key(alice.parent / name)
    with ssh_server(key) as port:
        options = {"url": f"ssh://127.0.0.1{alice.parent}/storage", "port": port, "user": getpass.getuser()}
        for option, value in (options | {"keyfile": alice.parent / "wrong"}).items():
            run(alice, "dvc", "remote", "modify", "storage", option, str(value))
        assert "Permission denied" in run(alice, "dvc", "push", succeeds=False)
        run(alice, "dvc", "remote", "modify", "storage", "keyfile", str(alice.parent / "right"))
        commit(alice, "Change the remote")
        run(alice, "dvc", "push", "--run-cache")
        bob = clone(alice, "bob")
        run(bob, "dvc", "pull", "--run-cache")
        assert ran(run(bob, "dvc", "repro")) == set()
        assert ((bob / "out").read_text(), (bob / "folder/y").read_text()) == ("one", "y\n")


@pytest.mark.parametrize("target", ["push", "pull"])
def test_what_dvc_does_not_say_is_told(tmp_path, alice, target):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\n[ $3 = remote ] && echo 'storage /folder (default)' || exit 141\n")
    broken.chmod(0o755)
    printed = run(tmp_path, *MAKE, f"PYTHON={broken}", target, succeeds=False)
    assert f"the connection broke. What arrived is kept: type `make {target}` again" in printed
    run(alice, "dvc", "remote", "remove", "storage")
    printed = run(alice, *MAKE, PYTHON, target, succeeds=False)
    assert printed.startswith("error: DVC has no default remote.")


def test_what_any_branch_needs_survives_the_documents_clean_up(alice):
    documents = "\n".join(DOCUMENTS.values())
    make_clone = re.search(r"git clone --quiet --config '(\S+)' \. \.\./fresh", documents)
    collect = re.search(r"dvc (gc --all-commits --cloud) --dry", documents)
    hub = alice.parent / "hub"
    run(alice.parent, "git", "clone", "--quiet", "--bare", "alice", "hub")
    run(alice, "git", "remote", "add", "origin", str(hub))
    bob = clone(hub, "bob")
    run(bob, "git", "checkout", "--quiet", "-b", "bobs")
    change_data(bob, "of bob")
    commit(bob, "Of bob")
    run(bob, "dvc", "push", "--quiet")
    run(bob, "git", "push", "--quiet", "origin", "bobs")
    for content in ("nobody's", "not sent yet"):
        change_data(alice, content)
        run(alice, "dvc", "push", "--quiet")
    commit(alice, "Not sent yet")
    run(alice, "git", "fetch", "--all", "--quiet")
    run(alice, "git", "clone", "--quiet", "--config", make_clone[1], ".", "../fresh")
    fresh = alice.parent / "fresh"
    planned = run(fresh, "dvc", *collect[1].split(), "--dry")
    assert str(stored(alice, "nobody's")) in planned
    run(fresh, "dvc", *collect[1].split(), "--force")
    assert all(stored(alice, content) for content in ("of bob", "not sent yet"))
    assert not stored(alice, "nobody's")
