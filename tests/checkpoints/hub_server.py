"""A hub on loopback: the part of the Hugging Face hub's protocol that its client uses, with faults on demand."""

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Request:
    method: str
    path: str
    range: str | None
    authorization: str | None
    user_agent: str | None


@dataclass
class Hub:
    """What the hub holds, what it was asked, and how it misbehaves.

    `revisions` are commits by (model, branch or tag), `files` bytes by (model, commit) and name. Files in `large` are
    served by another host through a redirect, as the hub serves those of Git LFS.
    """

    revisions: dict[tuple[str, str], str] = field(default_factory=dict)
    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    large: tuple[str, ...] = (".safetensors", ".bin")
    requests: list[Request] = field(default_factory=list)
    gated: set[str] = field(default_factory=set)
    private: dict[str, str] = field(default_factory=dict)  # the token that opens a model
    wrong_bytes: set[str] = field(default_factory=set)  # files served with one byte changed
    cut_once: dict[str, int] = field(default_factory=dict)  # bytes after which the connection breaks, the first time
    stall_once: dict[str, int] = field(default_factory=dict)  # bytes after which nothing more comes, the first time
    stalled: threading.Event = field(default_factory=threading.Event)
    ignores_ranges: bool = False
    status: int | None = None  # answers everything with this
    address: str = ""
    cdn_address: str = ""

    def publish(self, model: str, files: dict[str, bytes], commit: str, branch: str = "main") -> None:
        self.files[model, commit] = files
        self.revisions[model, branch] = commit

    def asked(self, method: str = "", containing: str = "") -> list[Request]:
        return [one for one in self.requests if one.method.startswith(method) and containing in one.path]


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Say nothing of clients that were killed."""


@contextmanager
def serve_hub() -> Iterator[Hub]:
    hub = Hub()
    servers = [_Server(("127.0.0.1", 0), _handler(hub, role)) for role in ("hub", "cdn")]
    # Another name, so that clients which tell hosts apart by name alone take them for two.
    hub.address, hub.cdn_address = (
        f"http://{host}:{server.server_port}" for host, server in zip(("127.0.0.1", "localhost"), servers, strict=True)
    )
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(hub: Hub, role: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            headers = self.headers
            hub.requests.append(
                Request(self.command, self.path, headers["Range"], headers["Authorization"], headers["User-Agent"])
            )
            if hub.status is not None:
                self.send(hub.status, b"")
            elif role == "cdn":
                self.send_large(urlsplit(self.path).path.strip("/"))
            else:
                self.answer_as_hub([unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")])

        def answer_as_hub(self, parts):
            place = parts[4] if parts[:2] == ["api", "models"] and len(parts) == 6 else None
            if place in ("revision", "tree"):
                model, revision, name = "/".join(parts[2:4]), parts[5], None
            elif len(parts) >= 5 and parts[2] == "resolve":
                model, revision, name = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
            else:
                self.send(404, b"no such place")
                return
            token = hub.private.get(model)
            known = any(model == held for held, _ in hub.files)
            if not known or (token and self.headers["Authorization"] != f"Bearer {token}"):
                self.refuse(404 if token else 401, "RepoNotFound")
                return
            commit = hub.revisions.get((model, revision), revision)
            files = hub.files.get((model, commit))
            if files is None:
                self.refuse(404, "RevisionNotFound")
            elif name is None:
                siblings = [*map(self.described, files, files.values())]
                tree = [self.in_tree(entry) for entry in siblings]
                info = {"id": model, "sha": commit, "siblings": siblings}
                self.send(200, json.dumps(tree if place == "tree" else info).encode())
            elif model in hub.gated:
                self.refuse(403, "GatedRepo")
            elif name not in files:
                self.refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
            else:
                self.send_file(model, commit, name, files[name])

        def described(self, name, content):
            entry = {"rfilename": name, "size": len(content), "blobId": git_sha1(content)}
            if name.endswith(hub.large):
                entry["blobId"] = git_sha1(b"a pointer")
                entry["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": 135}
            return entry

        def in_tree(self, entry):
            """The same fact in the words of another end point."""
            lfs = {"lfs": entry["lfs"] | {"oid": entry["lfs"]["sha256"]}} if "lfs" in entry else {}
            return {"type": "file", "path": entry["rfilename"], "size": entry["size"], "oid": entry["blobId"]} | lfs

        def send_file(self, model, commit, name, content):
            headers = {"X-Repo-Commit": commit}
            if name.endswith(hub.large):
                headers |= {
                    "Location": f"{hub.cdn_address}/{model}/{commit}/{name}?signature=short-lived",
                    "X-Linked-ETag": f'"{sha256(content)}"',
                    "X-Linked-Size": str(len(content)),
                }
                self.send(302, b"Found. Redirecting", headers)
            else:
                self.send(200, self.spoiled(name, content), headers | {"ETag": f'"{git_sha1(content)}"'})

        def spoiled(self, name, content):
            return content[:-1] + bytes([content[-1] ^ 1]) if name in hub.wrong_bytes else content

        def send_large(self, path):
            owner, short, commit, name = path.split("/")
            whole = self.spoiled(name, hub.files[f"{owner}/{short}", commit][name])
            wanted = self.headers["Range"]
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and not hub.ignores_ranges else 0
            headers = {"ETag": '"of the storage"', "Accept-Ranges": "bytes"}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
            content = whole[start:]
            self.send(206 if start else 200, b"", headers, length=len(content))
            if name in hub.cut_once:
                self.wfile.write(content[: hub.cut_once.pop(name)])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            elif name in hub.stall_once:
                self.wfile.write(content[: hub.stall_once.pop(name)])
                self.wfile.flush()
                hub.stalled.set()
                self.connection.recv(1)  # until the client is gone
                self.close_connection = True
            else:
                self.wfile.write(content)

        def refuse(self, status, code, headers=None):
            self.send(
                status, b"", {"X-Error-Code": code, "X-Error-Message": "told by the test's hub"} | (headers or {})
            )

        def send(self, status, body, headers=None, length=None):
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    return Handler
