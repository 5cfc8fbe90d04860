"""A folder in a repository of the Hugging Face hub: reading it, and adding many files in one commit."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar

from store.errors import NotWritableError, RemoteError, StoreNotFoundError
from store.files import Buffer
from store.folder import check_name
from store.sharing.trouble import attempt, damaged

T = TypeVar("T")

_ATTEMPTS = 2
"""The hub's client tries most requests again by itself, for some twenty seconds; this is for the others."""
_TYPES = {"datasets", "models", "spaces", "buckets"}
_ACCESS = "Log in with `hf auth login` or set HF_TOKEN; a private repository needs a token that may read (or write) it."
_OTHERS = frozenset({409, 412})
"""Somebody else's commit came first. Then ours goes on top of it."""
_RACES = 6
"""Attempts of a commit that depends on what is there: others may come first again."""
_ASKED = 500
"""Paths of one question to the hub."""
_BLOCK = 1 << 22


class HubPlace:
    """A folder in a hub repository. See `Place`.

    Args:
        url: `hf://datasets/<user>/<name>[@<revision>]/<folder>`.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._root = _with_revision(self.url)
        self._made = os.getpid(), _connect()
        self._listing = Lock()

    def read(self, name: str, limit: int) -> bytes:
        """See `Place.read`: one request, and one for each folder seen for the first time."""

        def call() -> bytes:
            # A stream depends on no size that was listed long ago: manifests are replaced.
            with suppress(FileNotFoundError):
                self._info(name)
            try:
                self._fs.resolve_path(self._where(name))
            except FileNotFoundError as error:
                raise StoreNotFoundError(
                    f"{self.url}: there is no such repository or revision, or your login may not see it. {_ACCESS}"
                ) from error
            with self._fs.open(self._where(name), "rb", block_size=0) as file:
                content: bytes = file.read(limit + 1)
            return content

        return self._attempt(name, call)

    def fetch(self, name: str, start: int, stop: int) -> bytes:
        """See `Place.fetch`: one request, and one for each folder seen for the first time."""

        def call() -> bytes:
            self._info(name)
            content: bytes = self._fs.cat_file(self._where(name), start=start, end=stop, cache_type="none")
            return content

        return self._attempt(name, call)

    def download(self, name: str, size: int, path: Path) -> None:
        """See `Place.download`: through Xet where it is installed."""
        from fsspec.callbacks import TqdmCallback  # type: ignore[import-untyped]

        def call() -> None:
            found = self._info(name)["size"]
            if found != size:
                raise damaged(f"{self.url}/{name}", f"has {found} bytes, committed were {size}")
            try:
                with TqdmCallback(tqdm_kwargs={"disable": True}) as silent:
                    self._fs.get_file(self._where(name), str(path), callback=silent)
            except RuntimeError as error:  # what Xet raises for all its trouble
                raise ConnectionError(f"Xet: {error}") from error

        self._attempt(name, call)

    def names(self, under: str) -> list[str] | None:
        """See `Place.names`."""

        def call() -> list[str]:
            with self._listing:
                listed: list[str] = self._fs.ls(self._where(under), detail=False, refresh=True)
            return listed

        try:
            return [path.rpartition("/")[2] for path in self._attempt(under, call)]
        except FileNotFoundError:
            return []

    def write(self, name: str, content: bytes) -> None:
        """See `Place.write`: a commit of its own. For many files see `commit_files`."""
        commit_files(self.url, {name: content}, f"Add {name}")

    def _info(self, name: str) -> Any:
        """What the listing of the file's folder says. Only one thread at a time may change the listings."""
        path = self._where(name)
        with self._listing:
            try:
                return self._fs.info(path)
            except FileNotFoundError:
                self._fs.invalidate_cache(path)  # it may have come since
                return self._fs.info(path)

    def _attempt(self, name: str, call: Callable[[], T]) -> T:
        try:
            return attempt(call, f"{self.url}/{name}", _ACCESS, _ATTEMPTS)
        except ValueError as error:
            raise StoreNotFoundError(f"{self.url}: {error}") from error

    def _where(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @property
    def _fs(self) -> Any:
        """The file system of this process. It keeps what it listed, so every folder has one of its own."""
        process, system = self._made
        if process != os.getpid():
            self._listing = Lock()
            system = _connect()
            self._made = os.getpid(), system
        return system


Files = Mapping[str, bytes | Path | Sequence[Buffer]]


class Held(NamedTuple):
    """A file of a repository: its size, the name of its git object, and its sha256 if it is a large one."""

    size: int
    blob: str
    sha256: str | None

    def same(self, path: Path) -> bool:
        """Whether a file of this machine has the same content."""
        size = path.stat().st_size
        if size != self.size:
            return False
        state = hashlib.sha1(b"blob %d\0" % size) if self.sha256 is None else hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                state.update(block)
        return state.hexdigest() == (self.sha256 or self.blob)


class Revision:
    """A folder of a repository as it was after one commit.

    Args:
        api: the hub's client.
        where: the folder, for messages.
        commit: how the client names the repository and the commit.
        prefix: of the names of the folder.
    """

    def __init__(self, api: Any, where: str, commit: dict[str, Any], prefix: str) -> None:
        self._api, self._where, self._commit, self._prefix = api, where, commit, prefix

    def held(self, names: Iterable[str]) -> dict[str, Held]:
        """Those of the files that are there. A request for each 500."""
        paths = [self._prefix + name for name in names]
        found: dict[str, Held] = {}
        for start in range(0, len(paths), _ASKED):

            def ask(asked: list[str] = paths[start : start + _ASKED]) -> list[Any]:
                infos = self._api.get_paths_info(paths=asked, **self._commit)
                return [info for info in infos if hasattr(info, "size")]

            for info in attempt(ask, self._where, _ACCESS, _ATTEMPTS):
                sha256 = info.lfs.sha256 if info.lfs else None
                found[info.path.removeprefix(self._prefix)] = Held(info.size, info.blob_id, sha256)
        return found


def commit_files(url: str, files: Files | Callable[[Revision], Files], message: str) -> str:
    """Add files to a hub repository, all in one commit, since the hub limits commits and not files.

    The hub takes up to some thousand files and 1 GB of small ones (below 10 MB) in one commit; large ones do not count.
    Files that are there already with the same content are left alone, so that a commit can be repeated.

    Args:
        url: `hf://datasets/<user>/<name>[@<branch>][/<folder>]`; the repository must exist.
        files: name inside the folder -> content, or the local file that holds it, or its buffers in order. Or what
            chooses them by what is there: the commit then goes on top of this very revision, and if somebody else's
            comes first, the files are chosen again. If none are, there is no commit.
        message: summary of the commit.

    Returns:
        The hash of the commit, or of the last one if there was nothing to commit.

    Raises:
        NotWritableError: the URL is of no repository, or there is none.
        RemoteError: the hub refuses, cannot be reached, or left out a file.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    where = url.rstrip("/")
    repository, folder = _repository(where)
    prefix = f"{folder}/" if folder else ""
    api = HfApi()
    prepared: dict[tuple[str, bytes | Path], Any] = {}  # they know what they have uploaded

    def operation(name: str, content: bytes | Path) -> Any:
        check_name(name)
        if (name, content) not in prepared:
            prepared[name, content] = CommitOperationAdd(prefix + name, content)
        return prepared[name, content]

    def commit() -> tuple[str, list[Any]]:
        parent: str | None = None
        chosen = files
        if callable(chosen):
            parent = str(api.repo_info(**repository).sha)
            chosen = chosen(Revision(api, where, {**repository, "revision": parent}, prefix))
            if not chosen:
                return parent, []
        operations = [operation(name, _content(content)) for name, content in chosen.items()]
        made = api.create_commit(operations=operations, commit_message=message, parent_commit=parent, **repository)
        return made.oid, operations

    made, operations = attempt(commit, where, _ACCESS, _RACES if callable(files) else _ATTEMPTS, _OTHERS)
    _check_committed(api, where, {**repository, "revision": made}, operations)
    return made


def _check_committed(api: Any, where: str, commit: dict[str, str], operations: Sequence[Any]) -> None:
    """The hub leaves out, without an error, whatever a `.gitignore` in the repository names."""
    for start in range(0, len(operations), _ASKED):
        expected = {each.path_in_repo: each.upload_info.size for each in operations[start : start + _ASKED]}

        def ask(paths: list[str] = [*expected]) -> dict[str, int]:  # noqa: B006  (bound to this round)
            return {info.path: info.size for info in api.get_paths_info(paths=paths, **commit) if hasattr(info, "size")}

        held = attempt(ask, where, _ACCESS, _ATTEMPTS)
        if lost := [path for path, size in expected.items() if held.get(path) != size]:
            raise RemoteError(
                f"{where}: the hub left out {len(lost)} of {len(operations)} files of the commit, {lost[0]} among "
                "them. Look for a .gitignore in the repository that names them, remove it, and run the command again."
            )


def _repository(url: str) -> tuple[dict[str, Any], str]:
    """How the hub's API names the repository and revision of a URL, and the folder in it."""

    def resolve() -> Any:
        return _connect().resolve_path(_with_revision(url))

    try:
        found = attempt(resolve, url, _ACCESS, _ATTEMPTS)
    except FileNotFoundError as error:
        raise NotWritableError(
            f"{url}: there is no such repository or branch, or your login may not see it. Create it on "
            f"https://huggingface.co/new-dataset, public or private as you wish. {_ACCESS}"
        ) from error
    except ValueError as error:
        raise StoreNotFoundError(f"{url}: {error}") from error
    if not hasattr(found, "repo_id"):
        raise NotWritableError(f"{url}: only repositories have commits. Name one: hf://datasets/<user>/<name>.")
    return {"repo_id": found.repo_id, "repo_type": found.repo_type, "revision": found.revision}, found.path_in_repo


def _with_revision(url: str) -> str:
    """The URL with the branch spelt out, or the `@` of `blocks.1@t502` could be taken for the one before a revision."""
    kind, *rest = url.removeprefix("hf://").split("/")
    if kind not in _TYPES:
        kind, rest = "", [kind, *rest]
    if len(rest) < 2 or not all(rest[:2]):
        raise StoreNotFoundError(f"{url}: is no folder of a repository. It looks like hf://datasets/<user>/<name>.")
    if "@" not in rest[1] and kind != "buckets":
        rest[1] += "@main"
    return "/".join([kind, *rest] if kind else rest)


def _content(content: bytes | Path | Sequence[Buffer]) -> bytes | Path:
    return content if isinstance(content, bytes | Path) else b"".join(content)


def _connect() -> Any:
    from huggingface_hub import HfFileSystem

    return HfFileSystem(skip_instance_cache=True)
