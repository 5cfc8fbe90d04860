"""As much of the Hugging Face hub as `huggingface_hub` needs to read a data set and to commit to it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.store.servers import Handler, Misbehaviour, serving

REPOSITORY = "lab/features"
TOKEN = "hf_of_a_test"


@dataclass
class Hub:
    """A hub with one private data set.

    Attributes:
        url: `hf://datasets/<user>/<name>`.
        files: path -> content, of the branch main.
        commits: message and paths of every commit, oldest first.
        ignored: paths that a `.gitignore` names.
        conflicts: number of next commits that come second to another.
        before: called once, when the next commit arrives, before it is looked at.
        behaviour: how it answers.
    """

    url: str = f"hf://datasets/{REPOSITORY}"
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[tuple[str, list[str]]] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)
    conflicts: int = 0
    before: Callable[[], object] | None = None
    behaviour: Misbehaviour = field(default_factory=Misbehaviour)

    @property
    def sha(self) -> str:
        return self.shas()[-1]

    def shas(self) -> list[str]:
        """Of all revisions, oldest first. The files of each are taken for those of the last."""
        return [hashlib.sha1(str(number).encode()).hexdigest() for number in range(len(self.commits) + 1)]


class _Hub(Handler):
    hub: ClassVar[Hub]

    def do_GET(self) -> None:
        match = self.route()
        if match is None:
            return None
        action, path = match
        if action == "resolve":
            content = self.hub.files.get(path)
            return self.missing("EntryNotFound") if content is None else self.send(content)
        if action == "tree":
            entries = self.tree(path)
            return self.json(entries) if entries or not path else self.missing("EntryNotFound")
        return self.json({"id": REPOSITORY, "sha": self.hub.sha, "private": True, "tags": [], "siblings": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match = self.route()
        if match is None:
            return None
        hub, action = self.hub, match[0]
        if action == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": p, "uploadMode": "regular", "shouldIgnore": p in hub.ignored} for p in paths]
            return self.json({"files": modes})
        if action == "paths-info":
            wanted = parse_qs(body.decode())["paths"]
            return self.json([self.entry(path) for path in wanted if path in hub.files])
        if hub.conflicts:
            hub.conflicts -= 1
            return self.answer(412)
        before, hub.before = hub.before, None
        if before is not None:
            before()
        header, *operations = [json.loads(line) for line in body.splitlines()]
        if header["value"].get("parentCommit", hub.sha) != hub.sha:
            return self.answer(412)
        values = [operation["value"] for operation in operations]
        added = {value["path"]: base64.b64decode(value["content"]) for value in values}
        hub.files.update(added)
        hub.commits.append((header["value"]["summary"], sorted(added)))
        url = f"https://huggingface.co/datasets/{REPOSITORY}/commit/{hub.sha}"  # parsed by the client, not requested
        return self.json({"commitUrl": url, "commitOid": hub.sha})

    def route(self) -> tuple[str, str] | None:
        """What is asked for: an action and a path. `None` if the answer was given here."""
        if self.misbehave():
            return None
        path = urlsplit(self.path).path
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, X_Error_Code="RepoNotFound")
        found = re.fullmatch(
            rf"(?:/api)?/datasets/{REPOSITORY}(?:/(\w+(?:-info)?)/([^/]+)(?:/(.*))?)?", path, flags=re.ASCII
        )
        if found is None:
            return self.missing("RepoNotFound")
        if found[2] not in (None, "main", *self.hub.shas()):
            return self.missing("RevisionNotFound")
        return found[1] or "revision", unquote(found[3] or "")

    def tree(self, folder: str) -> list[dict[str, Any]]:
        prefix = f"{folder}/" if folder else ""
        inside = [path for path in self.hub.files if path.startswith(prefix)]
        folders = {prefix + path[len(prefix) :].partition("/")[0] for path in inside if "/" in path[len(prefix) :]}
        files = [self.entry(path) for path in inside if "/" not in path[len(prefix) :]]
        return files + [{"type": "directory", "path": path, "oid": "0" * 40} for path in sorted(folders)]

    def entry(self, path: str) -> dict[str, Any]:
        content = self.hub.files[path]
        digest = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        return {"type": "file", "path": path, "size": len(content), "oid": digest}

    def json(self, answer: Any) -> None:
        self.answer(200, json.dumps(answer).encode(), Content_Type="application/json")

    def missing(self, what: str) -> None:
        self.answer(404, X_Error_Code=what)


@pytest.fixture(name="hub")
def hub_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub at another address, for a client that was told to stay offline when it was imported."""
    import huggingface_hub
    from huggingface_hub import constants

    hub = Hub()
    with serving(_Hub, hub=hub) as (url, hub.behaviour):
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        huggingface_hub.close_session()
        yield hub
        huggingface_hub.close_session()
