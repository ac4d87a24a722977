"""A remote that a team shares: a real sshd on this machine, its faults, and what DVC says and does then.

What DVC does silently, and which setting or command makes it noticed, is tested, too: such a test fails when DVC changes.
"""

import functools
import getpass
import http.server
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import psutil
import pytest

from tests.conftest import ROOT, clone_with_data, commit, ran, run, wait_until

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin:/sbin")
SFTP = shutil.which("sftp-server", path="/usr/lib/openssh:/usr/libexec/openssh:/usr/lib/ssh:/usr/libexec")
PASS = "dd bs=16k count=4000000 iflag=count_bytes status=none"
STALLED = f"#!/bin/sh\n({PASS}; exec sleep 60) | {SFTP} | ({PASS}; exec sleep 60)\n"
needs_sftp = pytest.mark.skipif(SFTP is None, reason="OpenSSH's program sftp-server was not found")
ROOT_USER = os.geteuid() == 0
APART = ("unshare", "--mount")  # mounts that only this process and its children see
MOUNTS = ROOT_USER and not subprocess.run([*APART, "mount", "-t", "tmpfs", "none", "/mnt"], check=False).returncode
pytestmark = [
    pytest.mark.skipif(SSHD is None, reason="no sshd is installed: for example `sudo apt install openssh-server`"),
    pytest.mark.skipif(ROOT_USER and not MOUNTS, reason="this root may not mount the folder /run/sshd that sshd needs"),
]

CONFIGURATION = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/right.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp {sftp}
{settings}
"""
GRAPH = """\
stages:
  make:
    cmd: mkdir folder && cp in out && echo x > folder/x && echo y > folder/y
    deps: [in]
    outs: [out, folder]
  score:
    cmd: cp out copy && wc -c < out > score
    deps: [out]
    outs: [copy]
    metrics:
    - score: {cache: false}
"""
MAKE = ("make", "--file", str(ROOT / "Makefile"), "INSTALL=:")
BROKEN = "the connection broke. What arrived is kept: type `make {}` again"
COLLECT = "dvc gc --all-commits --cloud --force"  # as README.md says, in a fresh clone
CLONE = "git clone --quiet --config remote.origin.fetch=+refs/remotes/*:refs/remotes/all/* ."  # so does this


@dataclass
class Server:
    """An sshd on a free port of this machine, with keys, configuration (with `settings`) and storage in one folder."""

    folder: Path
    process: subprocess.Popen | None = None
    port: int = 0
    settings: str = ""

    def start(self, mount: str = "true", sftp: str | Path = "internal-sftp") -> None:
        """Start it, as root after a shell command that mounts what only the server sees, and wait until it answers."""
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        configuration = self.folder / "sshd_config"
        configuration.write_text(
            CONFIGURATION.format(port=self.port, folder=self.folder, sftp=sftp, settings=self.settings)
        )
        sshd = f"exec {SSHD} -D -e -f '{configuration}'"
        own_run = f"mount -t tmpfs none /run && mkdir -m 755 /run/sshd && {mount} && {sshd}"
        command = [*APART, "sh", "-c", own_run] if ROOT_USER else ["sh", "-c", sshd]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self.answers)

    def restart_stalled(self) -> None:
        """Restart it, so that a transfer stops after 4 MB and waits."""
        stalled = self.folder / "stalled"
        stalled.write_text(STALLED)
        stalled.chmod(0o755)
        self.kill()
        self.start(sftp=stalled)

    def answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """Kill the sessions, then the sshd that they belong to."""
        if self.process is not None:
            listener = psutil.Process(self.process.pid)
            for session in reversed(listener.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    session.kill()
            wait_until(lambda: not listener.children())
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def storage(self) -> Path:
        """The remote's folder, as the server sees it."""
        return Path(f"/proc/{self.process.pid}/root{self.folder}" if ROOT_USER else self.folder) / "storage"

    def objects(self) -> dict[str, bytes]:
        """The content of each object in the remote, by its MD5."""
        files = (path for path in (self.folder / "storage/files/md5").glob("??/*") if not path.name.startswith("."))
        return {path.parent.name + path.name: path.read_bytes() for path in files}

    def path(self, content: str) -> Path:
        """The only object with this text."""
        (md5,) = (md5 for md5, stored in self.objects().items() if stored == content.encode())
        return self.folder / "storage/files/md5" / md5[:2] / md5[2:]


@dataclass
class Team:
    """A small project in `alice`, its clones, and the server with its remote."""

    folder: Path
    server: Server

    def dvc(self, whose: str, *arguments: str, succeeds: bool = True) -> str:
        """Run a command of DVC in a clone: see `run`."""
        return self.run(whose, "dvc", *arguments, succeeds=succeeds)

    def make(self, whose: str, target: str, succeeds: bool = True) -> str:
        """Run `make TARGET` in a clone: see `run`."""
        return self.run(whose, *MAKE, f"PYTHON={shlex.quote(sys.executable)}", target, succeeds=succeeds)

    def run(self, whose: str, *command: str, succeeds: bool = True) -> str:
        """Run a command in a clone, with this team's ~/.ssh, and an index of the remote for each clone."""
        own = {"HOME": str(self.folder), "DVC_SITE_CACHE_DIR": str(self.folder / f"index-{whose}"), "SSH_AUTH_SOCK": ""}
        output = run(self.folder / whose, *command, succeeds=succeeds, **own)
        assert "Traceback" not in output
        return output

    def clone(self, name: str) -> Path:
        run(self.folder, "git", "clone", "--quiet", "alice", name)
        return self.folder / name

    def change_data(self, content: str) -> None:
        """Run alice's graph on other content."""
        (self.folder / "alice/in").write_text(content)
        self.dvc("alice", "repro", "--quiet")

    def use_key(self, name: str) -> None:
        """Name the server in ~/.ssh/config, with a key."""
        path = self.folder / ".ssh/config"
        path.parent.mkdir(exist_ok=True)
        user = f"User {getpass.getuser()}\n  IdentityFile {self.server.folder / name}"
        path.write_text(f"Host storage\n  HostName 127.0.0.1\n  Port {self.server.port}\n  {user}\n")

    def options(self) -> str:
        """The remote without ~/.ssh/config, as `dvc remote modify --local storage OPTION VALUE` writes it."""
        options = {
            "url": f"ssh://127.0.0.1{self.server.folder}/storage",
            "port": self.server.port,
            "user": getpass.getuser(),
            "keyfile": self.server.folder / "right",
        }
        return "['remote \"storage\"']\n" + "".join(f"    {name} = {value}\n" for name, value in options.items())

    def change(self, whose: str, option: str, value: str) -> None:
        """Change one option of the remote in one clone."""
        (self.folder / whose / ".dvc/config.local").write_text(f"['remote \"storage\"']\n    {option} = {value}\n")


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """The project after its first run, and a server's keys."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "server/storage").mkdir(parents=True)
    for name in ("host", "right", "wrong"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(folder / "server" / name)
        key.write_public_key(folder / "server" / f"{name}.pub")
        (folder / "server" / name).chmod(0o600)
    alice = folder / "alice"
    run(folder, "git", "init", "--quiet", "--initial-branch", "main", "alice")
    run(alice, "dvc", "init", "--quiet")
    with (alice / ".dvc/config").open("a") as configuration:
        configuration.write("[core]\n    analytics = false\n    autostage = true\n")
    (alice / "dvc.yaml").write_text(GRAPH)
    (alice / "in").write_text("one")
    run(alice, "dvc", "repro", "--quiet")
    return folder


@pytest.fixture
def team(first, tmp_path):
    """A team with a server that runs and an empty remote, configured as README.md says."""
    shutil.copytree(first, tmp_path, dirs_exist_ok=True, symlinks=True)
    server = Server(tmp_path / "server")
    server.start()
    team = Team(tmp_path, server)
    team.use_key("right")
    with (tmp_path / "alice/.dvc/config").open("a") as configuration:
        configuration.write("    remote = storage\n['remote \"storage\"']\n    verify = true\n")
        configuration.write(f"    url = ssh://storage{server.folder}/storage\n")
    commit(tmp_path / "alice", "First run")
    yield team
    server.kill()
    shutil.rmtree(tmp_path)  # large files


def test_a_colleague_pulls_and_nothing_runs(team):
    team.dvc("alice", "push", "--run-cache")
    bob = team.clone("bob")
    team.dvc("bob", "pull", "--run-cache")
    assert (bob / "out").read_text() == "one"
    assert ran(team.dvc("bob", "repro")) == set()


def test_nothing_of_the_projects_graph_runs_after_a_pull(team, finished):
    (team.folder / ".ssh/config").unlink()
    clone_with_data(finished, team.folder / "workspace")
    run(team.folder, "git", "clone", "--quiet", "workspace", "colleague")
    with (team.folder / "workspace/.dvc/config.local").open("a") as configuration:
        configuration.write(team.options())
    (team.folder / "colleague/.dvc/config.local").write_text(team.options())
    team.dvc("workspace", "push", "--run-cache", "--remote", "storage")
    team.dvc("colleague", "pull", "--run-cache", "--remote", "storage")
    assert ran(team.dvc("colleague", "repro")) == set()


def test_a_pulled_cache_of_runs_restores_only_stages_whose_results_all_lie_in_dvcs_cache(team):
    team.change_data("twotwo")
    commit(team.folder / "alice", "Second run")
    team.dvc("alice", "push", "--all-commits", "--run-cache")
    bob = team.clone("bob")
    team.dvc("bob", "pull", "--run-cache")
    (bob / "in").write_text("one")
    assert ran(team.dvc("bob", "repro", "--pull")) == {"score"}  # no command pushes a result with `cache: false`
    assert (bob / "out").read_text() == "one"


@pytest.mark.fault(
    "The server of the remote refuses the key.",
    "`dvc push` and `dvc pull` say so and exit with an error; with the right key, they complete.",
)
def test_a_refused_key_is_told(team):
    team.clone("bob")
    team.use_key("wrong")
    for whose, command in (("alice", "push"), ("bob", "pull")):
        output = team.dvc(whose, command, "--run-cache", succeeds=False)
        assert f"Permission denied for user {getpass.getuser()} on host 127.0.0.1" in output
    assert team.server.objects() == {}
    team.use_key("right")
    team.dvc("alice", "push", "--run-cache")
    team.dvc("bob", "pull", "--run-cache")


def add_large_file(team: Team) -> bytes:
    """Add a file of 8 MB; returns its content."""
    content = os.urandom(8 << 20)
    (team.folder / "alice/large").write_bytes(content)
    team.dvc("alice", "add", "--quiet", "large")
    commit(team.folder / "alice", "Add a large file")
    return content


def killed_while(team: Team, whose: str, target: str, storage: Path) -> str:
    """Start `make TARGET`, and kill the server when a part of a file has arrived in `storage`; returns what it says."""

    def arrived() -> bool:
        return any(path.stat().st_size for path in storage.glob("files/md5/??/.*.tmp"))

    def attempt() -> tuple[bool, str]:
        team.server.restart_stalled()
        with ThreadPoolExecutor() as pool:
            output = pool.submit(team.make, whose, target, succeeds=False)
            try:
                with suppress(AssertionError):
                    wait_until(lambda: output.done() or arrived(), 20)
                came = arrived()
            finally:
                team.server.kill()
            return came, output.result()

    for _ in range(3):  # now and then, nothing arrives on a busy machine
        came, printed = attempt()
        if came:
            # DVC takes a broken pipe for that of its output, and is silent.
            assert "ERROR: " in printed or BROKEN.format(target) in printed
            return printed
    raise AssertionError(f"no part arrived: {printed}")


@pytest.mark.fault(
    "The server of the remote dies in the middle of a `dvc push`.",
    "DVC says so or, after a broken pipe, only `make push`; the exit status is an error; the next push completes.",
)
@needs_sftp
def test_a_push_completes_after_the_server_died(team):
    content = add_large_file(team)
    killed_while(team, "alice", "push", team.server.folder / "storage")
    assert max(map(len, team.server.objects().values()), default=0) < 1000  # no part passes for the whole
    assert "Connect call failed" in team.dvc("alice", "push", succeeds=False)
    team.server.start()
    team.dvc("alice", "push")
    assert content in team.server.objects().values()
    assert (team.folder / "alice/large").read_bytes() == content


@pytest.mark.parametrize("target", ["push", "pull"])
def test_a_broken_pipe_is_told_where_dvc_says_nothing(tmp_path, target):
    for status, told in ((141, True), (255, False)):
        python = tmp_path / f"ends-with-{status}"
        python.write_text(f"#!/bin/sh\n[ $3 = remote ] && echo 'storage /folder (default)' || exit {status}\n")
        python.chmod(0o755)
        printed = run(tmp_path, *MAKE, f"PYTHON={python}", target, succeeds=False)
        assert (BROKEN.format(target) in printed) == told


@pytest.mark.parametrize("target", ["push", "pull"])
def test_no_default_remote_is_told_with_what_to_type(tmp_path, target):
    for folder in (".git", ".dvc"):
        (tmp_path / folder).mkdir()
    run(tmp_path, "git", "init", "--quiet")
    (tmp_path / ".dvc/config").touch()
    printed = run(tmp_path, *MAKE, f"PYTHON={shlex.quote(sys.executable)}", target, succeeds=False)
    assert printed.startswith("error: DVC has no default remote.")


@pytest.mark.fault(
    "The default remote is reached by HTTP, where DVC leaves out its cache of runs without a word.",
    "`make push` and `make pull` say so.",
)
@pytest.mark.parametrize("target", ["push", "pull"])
def test_an_http_remote_without_a_cache_of_runs_is_told(team, target):
    team.dvc("alice", "push")
    bob = team.clone("bob")
    with web(team.server.folder / "storage") as address:
        for url, told in ((address, True), (str(team.server.folder / "storage"), False)):
            run(bob, "dvc", "remote", "add", "--default", "--force", "other", url)
            printed = run(bob, *MAKE, f"PYTHON={shlex.quote(sys.executable)}", target)
            assert ("DVC leaves out the cache of runs" in printed) == told


@pytest.mark.fault(
    "The server of the remote dies in the middle of a `dvc pull`: DVC may take the part of a file that came for the file, "
    "also in the next `dvc pull`.",
    "With the remote's option `verify`, the part is removed, and the next `dvc pull` completes.",
)
@needs_sftp
def test_a_pull_completes_after_the_server_died(team):
    content = add_large_file(team)
    team.dvc("alice", "push")
    for attempt in range(4):
        name = f"bob{attempt}"
        cache = team.clone(name) / ".dvc/cache"
        output = killed_while(team, name, "pull", cache)
        team.server.start()
        if "1 files failed" in output:  # the others had arrived; only then does DVC keep the part
            break
    team.dvc(name, "pull")
    assert (team.folder / name / "large").read_bytes() == content


@pytest.mark.fault(
    "The disk of the remote's server is full.",
    "DVC names the object (`Failure`) and exits with an error; with space, the next `dvc push` completes.",
)
@pytest.mark.skipif(not MOUNTS, reason="only root may mount a small disk for sshd")
def test_a_push_completes_when_a_full_disk_has_space_again(team):
    (team.folder / "alice/large").write_bytes(os.urandom(5 << 20))
    team.dvc("alice", "add", "--quiet", "large")
    team.server.kill()
    team.server.start(f"mount -t tmpfs -o size=8m none '{team.server.folder}/storage'")
    filler = team.server.storage / "filler"
    filler.write_bytes(bytes(7 << 20))
    output = team.dvc("alice", "push", succeeds=False)
    assert re.search(r"failed to transfer '\w{32}' - Failure\n.*1 files failed to upload", output), output
    assert "in sync" not in team.dvc("alice", "status", "--cloud")
    filler.unlink()
    assert "1 file pushed" in team.dvc("alice", "push")
    assert "in sync" in team.dvc("alice", "status", "--cloud")
    assert not list(team.server.storage.rglob(".*.tmp"))


def damage(path: Path) -> None:
    """Change a byte, as a disk does."""
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def test_without_verify_a_damaged_object_is_pulled_and_nobody_notices(team):
    team.dvc("alice", "push")
    damage(team.server.path("one"))
    bob = team.clone("bob")
    team.change("bob", "verify", "false")
    team.dvc("bob", "pull")
    assert (bob / "out").read_text() == "nne"
    assert ran(team.dvc("bob", "repro")) == set()
    assert "up to date" in team.dvc("bob", "status")


@pytest.mark.fault(
    "Files in the remote are damaged: DVC pulls them and says nothing, and `dvc push` takes them for pushed.",
    "With the remote's option `verify`, `dvc pull` stops and names the results. At the server, in the remote's folder "
    "`files/md5`, type `for f in ??/*; do n=${f%/*}${f#*/}; case $(md5sum <$f) in ${n%.dir}*) ;; "
    "*) rm -fv $f $(grep -ls $n ??/*.dir) ;; esac; done`, then, in a clone that has them, `dvc push`.",
)
@pytest.mark.parametrize("damaged", ["file", "file in a folder", "list of a folder"])
def test_a_damaged_object_is_noticed_and_pushed_again(team, damaged, request):
    bob = team.clone("bob")
    team.dvc("alice", "push")
    before = team.server.objects()
    if damaged == "list of a folder":
        (path,) = team.server.folder.glob("storage/files/md5/??/*.dir")
    else:
        path = team.server.path({"file": "one", "file in a folder": "y\n"}[damaged])
    damage(path)
    output = team.dvc("bob", "pull", succeeds=False)
    assert re.search({"file": "^out$", "file in a folder": "^folder$"}.get(damaged, "is corrupted"), output, re.M), (
        output
    )
    (mark,) = request.node.iter_markers("fault")
    command = re.search(r"`(for .*?done)`", mark.args[1])[1]
    assert str(path.relative_to(path.parents[1])) in run(path.parents[1], "sh", "-c", command)
    assert run(path.parents[1], "sh", "-c", command) == ""
    team.dvc("alice", "push")
    assert team.server.objects() == before
    team.dvc("bob", "pull")
    assert ran(team.dvc("bob", "repro")) == set()
    assert ((bob / "out").read_text(), (bob / "folder/y").read_text()) == ("one", "y\n")


def test_dvc_does_not_check_which_server_it_is(team):
    team.dvc("alice", "push")
    (team.folder / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{team.server.port} ssh-ed25519 AAAA\n")
    with (team.folder / ".ssh/config").open("a") as configuration:
        configuration.write("  StrictHostKeyChecking yes\n")
    assert "in sync" in team.dvc("alice", "status", "--cloud")


class Web(http.server.SimpleHTTPRequestHandler):
    """A web server without a log, which also takes files."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        path = Path(self.translate_path(self.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            while size := int(self.rfile.readline(), 16):  # a chunk
                file.write(self.rfile.read(size))
                self.rfile.readline()
        self.rfile.readline()
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def web(folder: Path) -> Iterator[str]:
    """Serve a folder; yields the address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Web, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_an_http_remote_has_no_cache_of_runs_and_dvc_says_so_only_when_asked(team):
    team.dvc("alice", "push", "--run-cache")
    bob, storage = team.clone("bob"), team.server.folder / "storage"
    with web(storage) as address:
        team.change("bob", "url", address)
        refusal = "run-cache is not supported for http filesystem"
        assert refusal not in team.dvc("bob", "pull", "--run-cache")
        assert refusal in team.dvc("bob", "push", "--run-cache", "--verbose")
    assert list(storage.glob("runs/*/*/*"))
    assert [path.name for path in (bob / ".dvc/cache").iterdir()] == ["files"]


@pytest.mark.fault(
    "`dvc gc --cloud` deletes what another branch needs (`--all-branches`: those of this clone) and, in the clone's cache, "
    "results of earlier parameters.",
    "In a fresh clone, `dvc gc --all-commits --cloud` keeps what any commit on the git server needs; no other clone loses "
    "anything.",
)
def test_what_another_branch_needs_survives(team):
    alice = team.folder / "alice"
    run(alice, "git", "checkout", "--quiet", "-b", "other")
    team.change_data("two of another branch")
    commit(alice, "Second run")
    run(alice, "git", "checkout", "--quiet", "main")
    team.change_data("three that nobody committed")
    team.dvc("alice", "push", "--quiet", "--run-cache")
    team.dvc("alice", "push", "--quiet", "--all-commits")
    run(alice, "git", "reset", "--quiet", "--hard")
    two, three = (team.server.path(content) for content in ("two of another branch", "three that nobody committed"))

    team.clone("fresh")
    for branches in ("--workspace", "--all-branches"):
        assert str(two) in team.dvc("fresh", "gc", branches, "--cloud", "--dry")
    plan = team.dvc("fresh", *COLLECT.split()[1:], "--dry")
    assert (str(two) in plan, str(three) in plan) == (False, True)
    assert three.exists()
    runs = list(team.server.folder.glob("storage/runs/*/*/*"))
    team.dvc("fresh", *COLLECT.split()[1:])
    assert (two.exists(), three.exists()) == (True, False)
    assert list(team.server.folder.glob("storage/runs/*/*/*")) == runs  # names without their results; DVC keeps them

    team.clone("bob")
    run(team.folder / "bob", "git", "checkout", "--quiet", "other")
    team.dvc("bob", "pull", "--run-cache")
    assert ran(team.dvc("bob", "repro")) == set()
    (alice / "in").write_text("three that nobody committed")
    assert ran(team.dvc("alice", "repro")) == set()
    run(alice, "git", "reset", "--quiet", "--hard")
    team.dvc("alice", *COLLECT.split()[1:])  # not in a fresh clone: results of earlier parameters are gone
    (alice / "in").write_text("two of another branch")
    assert ran(team.dvc("alice", "repro")) == {"score"}


@pytest.mark.fault(
    "`dvc gc --cloud` deletes what a branch needs that is only on the git server, or what was not yet sent to it.",
    "In a fresh clone of this clone with the branches of the server, as README.md makes it, it keeps both.",
)
def test_what_a_branch_of_the_server_or_of_this_clone_needs_survives(team):
    alice, hub = team.folder / "alice", team.folder / "hub"
    run(team.folder, "git", "clone", "--quiet", "--bare", "alice", "hub")
    run(alice, "git", "remote", "add", "origin", str(hub))
    run(team.folder, "git", "clone", "--quiet", "hub", "bob")
    run(team.folder / "bob", "git", "checkout", "--quiet", "-b", "bobs")
    (team.folder / "bob/in").write_text("of bob")
    team.dvc("bob", "repro", "--quiet")
    commit(team.folder / "bob", "Of bob")
    team.dvc("bob", "push", "--quiet")
    run(team.folder / "bob", "git", "push", "--quiet", "origin", "bobs")
    for content in ("nobody's", "not sent yet"):
        team.change_data(content)
        team.dvc("alice", "push", "--quiet")
    commit(alice, "Not sent yet")
    run(alice, "git", "fetch", "--all", "--quiet")
    run(alice, *CLONE.split(), "../fresh")
    *needed, nobodys = (team.server.path(content) for content in ("of bob", "not sent yet", "nobody's"))
    team.dvc("fresh", *COLLECT.split()[1:])
    assert all(path.exists() for path in needed)
    assert not nobodys.exists()


@pytest.mark.fault(
    "`dvc gc --skip-failed` deletes what a commit needs whose `dvc.yaml` cannot be read.",
    "Without that option, `dvc gc` names the commit and deletes nothing.",
)
def test_nothing_is_deleted_when_a_commit_cannot_be_read(team):
    alice = team.folder / "alice"
    run(alice, "git", "checkout", "--quiet", "-b", "broken")
    team.change_data("two")
    team.dvc("alice", "push", "--quiet")
    (alice / "dvc.yaml").write_text("stages: [")
    commit(alice, "Break dvc.yaml")
    run(alice, "git", "checkout", "--quiet", "main")
    team.clone("fresh")
    before = team.server.objects()
    assert "Failed to collect" in team.dvc("fresh", *COLLECT.split()[1:], succeeds=False)
    assert team.server.objects() == before
    assert str(team.server.path("two")) in team.dvc("fresh", *COLLECT.split()[1:], "--skip-failed", "--dry")
