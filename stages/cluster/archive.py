"""A copy of the project for a worker: all files that git knows or would add, as they are now, edits included."""

import io
import tarfile
import tempfile
from pathlib import Path

import pygit2

from stages.common.files import read_text, write_text
from stages.common.lock_file import HEAD, LOCK, blocks_of
from stages.common.workspace import git_folder, own_repository

CONFIGURATION = Path(".dvc/config.local")  # which git ignores


def pack(folder: Path, lost: tuple[str, ...] = ()) -> tuple[bytes, str]:
    """The project in `folder` as a tar archive, and the project's path inside it.

    The archive holds the files that git tracks or would add, and a repository with the last commit and its history, but
    without the content of files in it: so a stage that records the last commit of the project records the same one.
    Without a git repository, the archive holds the files that `.gitignore` does not name.

    Args:
        folder: Of the project.
        lost: Stages whose entries in `dvc.lock` are left out: see `Plan`.

    Returns:
        The archive; and the project's folder in its repository, which is `.` unless the repository holds more.
    """
    place = own_repository(folder)
    inside = folder.relative_to(place or folder)
    with tempfile.TemporaryDirectory() as temporary, io.BytesIO() as written:
        git = pygit2.Repository(str(place)) if place else empty_repository(folder, Path(temporary))
        with tarfile.open(fileobj=written, mode="w", dereference=True) as archive:
            for path in files_of(git, folder):
                if path != folder / LOCK:
                    archive.add(path, path.relative_to(place or folder), recursive=False)
            if (folder / LOCK).exists():
                write_text(Path(temporary) / LOCK, without(lost, read_text(folder / LOCK)))
                archive.add(Path(temporary) / LOCK, inside / LOCK)
            if (folder / CONFIGURATION).exists():
                archive.add(folder / CONFIGURATION, inside / CONFIGURATION)
            if place:
                archive.add(history(git, Path(temporary) / "history"), ".git")
        return written.getvalue(), str(inside)


def without(names: tuple[str, ...], text: str) -> str:
    """The text of a lock file without the entries of stages."""
    return HEAD + "".join(block for name, block in blocks_of(text).items() if name not in names) if names else text


def empty_repository(folder: Path, temporary: Path) -> pygit2.Repository:
    """An empty repository in `temporary` whose files are those of `folder`: to it they are all new, or ignored."""
    git = pygit2.init_repository(str(temporary / "empty"), bare=True)
    git.config["core.bare"] = False
    git.config["core.worktree"] = str(folder)
    return pygit2.Repository(git.path)


def files_of(git: pygit2.Repository, folder: Path) -> list[Path]:
    """The files inside `folder` that a repository tracks or would add, and that exist."""
    names = {entry.path for entry in git.index} | set(git.status(untracked_files="all"))
    paths = [Path(git.workdir) / name for name in sorted(names)]
    return [path for path in paths if path.is_relative_to(folder) and path.is_file()]


def history(git: pygit2.Repository, folder: Path) -> Path:
    """A repository's own folder, as it stands in `.git`, with the commits and trees of `git` from the last commit on."""
    pygit2.init_repository(str(folder))
    if git.head_is_unborn:
        return folder / ".git"
    own = git_folder(Path(git.workdir))
    shallow = (
        own / (own / "commondir").read_text().strip() / "shallow" if (own / "commondir").exists() else own / "shallow"
    )
    if shallow.exists():
        (folder / ".git" / "shallow").write_bytes(shallow.read_bytes())
    builder, seen = pygit2.PackBuilder(git), set()
    for commit in git.walk(git.head.target):
        builder.add(commit.id)
        add_tree(builder, commit.tree, seen)
    builder.write(str(folder / ".git" / "objects" / "pack"))
    copy = pygit2.Repository(str(folder))
    copy.set_head(git.head.target)
    copy.index.read_tree(copy.head.peel(pygit2.Tree))
    copy.index.write()
    return folder / ".git"


def add_tree(builder: pygit2.PackBuilder, tree: pygit2.Tree, seen: set[pygit2.Oid]) -> None:
    """Add a tree and those inside it, except those that were seen before."""
    if tree.id in seen:
        return
    seen.add(tree.id)
    builder.add(tree.id)
    for entry in tree:
        if isinstance(entry, pygit2.Tree):
            add_tree(builder, entry, seen)
