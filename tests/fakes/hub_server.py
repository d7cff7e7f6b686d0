"""The few routes of the Hugging Face Hub that huggingface_hub asks for models, on loopback."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.http_server import HttpServer, Request, Response

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubRepo:
    """One model; `gated` ones answer 403 to downloads."""

    files: dict[str, bytes]
    gated: bool = False
    commit: str = COMMIT


@dataclass
class FakeHub:
    """Serves `repos`; `ranges` are the Range headers that were asked with, by file name."""

    repos: dict[str, HubRepo] = field(default_factory=dict)
    ranges: list[tuple[str, str]] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)
    address: str = ""
    cache: Path = Path()

    def server(self) -> HttpServer:
        return HttpServer(self.handle)

    async def handle(self, request: Request) -> Response:
        url = urlsplit(request.path)
        if url.path == "/api/models":
            return self._search(parse_qs(url.query).get("search", [""])[0])
        if url.path.startswith("/api/models/"):
            name, _, revision = url.path.removeprefix("/api/models/").partition("/revision/")
            return self._info(name, revision)
        name, _, rest = url.path.lstrip("/").partition("/resolve/")
        return self._file(request, name, rest.partition("/")[2])

    def _search(self, text: str) -> Response:
        found = [self._entry(name) for name in self.repos if text in name]
        return Response.of_json(found)

    def _entry(self, name: str) -> dict[str, Any]:
        repo = self.repos[name]
        gated = "manual" if repo.gated else False
        return {"id": name, "modelId": name, "sha": repo.commit, "gated": gated, "downloads": 7}

    def _info(self, name: str, revision: str) -> Response:
        repo = self.repos.get(name)
        if repo is None:
            return _error(404, "RepoNotFound")
        if revision not in ("", "main", repo.commit):
            return _error(404, "RevisionNotFound")
        files = [{"rfilename": file, "size": len(body)} for file, body in repo.files.items()]
        return Response.of_json({**self._entry(name), "siblings": files})

    def _file(self, request: Request, name: str, file: str) -> Response:
        repo = self.repos.get(name)
        if repo is None or file not in repo.files:
            return _error(404, "EntryNotFound" if repo else "RepoNotFound")
        if repo.gated:
            return _error(403, "GatedRepo")
        body = repo.files[file]
        headers = {
            "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
            "X-Repo-Commit": repo.commit,
            "X-Linked-Size": str(len(body)),
            "Accept-Ranges": "bytes",
        }
        if request.method == "HEAD":
            return Response(200, b"", headers=headers)
        self.downloads.append(file)
        wanted = request.headers.get("range", "")
        if not wanted:
            return Response(200, body, "application/octet-stream", headers)
        self.ranges.append((file, wanted))
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return Response(206, body[start:], "application/octet-stream", headers)


def _error(status: int, code: str) -> Response:
    return Response.of_json({"error": code}, status, X_Error_Code=code, X_Error_Message=code)
