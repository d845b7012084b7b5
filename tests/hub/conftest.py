# Copyright 2026 The lumos_hf authors. Licensed under the Apache License, Version 2.0.
"""A small Hugging Face Hub on the loopback interface, in memory: the requests that pushing and pulling a model makes."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import torch
import yaml

from lumos_hf import CosmosVideoTokenizer, LumosForCausalLM, LumosVideoPipeline, MaskDecodingScheduler
from lumos_hf.evaluation.vocabulary import demo_config, demo_text_tokenizer


TOKEN = "hf_loopback"
CLIENTS = Path(__file__).parent

Files = dict[str, bytes]


@dataclass
class Repository:
    private: bool = False
    space_sdk: str | None = None
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files) -> str:
        """Makes `files` the content of the main branch."""
        digest = hashlib.sha1(self.branches.get("main", "").encode())
        for path, content in sorted(files.items()):
            digest.update(path.encode() + b"\0" + content)
        sha = digest.hexdigest()
        self.commits[sha] = files
        self.branches["main"] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        sha = self.branches.get(revision, revision)
        return sha if sha in self.commits else None

    @property
    def files(self) -> Files:
        return self.commits[self.branches["main"]]


class LoopbackHub(ThreadingHTTPServer):
    """The server. Tests put repositories into it, read what was pushed and requested, and make downloads fail."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.requests: list[str] = []
        # Downloads that were served: repository, path, first byte that was asked for.
        self.downloads: list[tuple[str, str, int]] = []
        # The next download of a file breaks off after so many bytes, or fails.
        self.break_after: dict[tuple[str, str], int] = {}
        self.fail_once: set[tuple[str, str]] = set()

    def add(self, repo_id: str, directory: Path, **options: Any) -> Repository:
        """Publishes a directory without any request."""
        repository = self.repositories.setdefault(repo_id, Repository(**options))
        files = [file for file in directory.rglob("*") if file.is_file()]
        repository.commit({file.relative_to(directory).as_posix(): file.read_bytes() for file in files})
        return repository


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(path)
        for pattern, method in _ROUTES:
            match = re.fullmatch(pattern, f"{self.command.replace('HEAD', 'GET')} {path}")
            if match:
                return method(self, **match.groupdict())
        self._send_error(HTTPStatus.NOT_FOUND, "EntryNotFound")

    @property
    def _token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _repository(self, repo_id: str, writing: bool = False) -> Repository | None:
        """The repository, or None after an error was sent."""
        repository = self.server.repositories.get(repo_id)
        may_see = repository is not None and (not repository.private or self._token == TOKEN)
        if self._token not in (None, TOKEN) or (writing and self._token != TOKEN):
            self._send_error(HTTPStatus.UNAUTHORIZED, message="Invalid username or password.")
        elif not may_see:
            self._send_error(HTTPStatus.NOT_FOUND, "RepoNotFound")
        else:
            return repository
        return None

    def _send(self, content: bytes, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("Content_Length", str(len(content))))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_json(self, content: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(content).encode(), status, Content_Type="application/json")

    def _send_error(self, status: HTTPStatus, code: str = "", message: str = "") -> None:
        headers = {"X_Error_Code": code, "X_Error_Message": message}
        self._send(b"", status, **{name: value for name, value in headers.items() if value})

    def create(self) -> None:
        if self._token != TOKEN:
            return self._send_error(HTTPStatus.UNAUTHORIZED, message="Invalid username or password.")
        request = json.loads(self.body)
        repo_id = f"{request['organization']}/{request['name']}"
        status = HTTPStatus.CONFLICT if repo_id in self.server.repositories else HTTPStatus.OK
        if status == HTTPStatus.OK:
            repository = Repository(private=request.get("visibility") == "private", space_sdk=request.get("sdk"))
            repository.commit({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
            self.server.repositories[repo_id] = repository
        self._send_json({"url": f"{self.server.endpoint}/{repo_id}", "name": repo_id}, status)

    def validate_card(self) -> None:
        errors = _errors_in_card(json.loads(self.body)["content"])
        status = HTTPStatus.BAD_REQUEST if errors else HTTPStatus.OK
        self._send_json({"errors": [{"message": error} for error in errors], "warnings": []}, status)

    def info(self, repo_id: str, revision: str | None = None) -> None:
        repository = self._repository(repo_id)
        if repository is None:
            return
        sha = repository.resolve(revision or "main")
        if sha is None:
            return self._send_error(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        siblings = [{"rfilename": path} for path in repository.commits[sha]]
        self._send_json({"id": repo_id, "sha": sha, "private": repository.private, "siblings": siblings, "tags": []})

    def tree(self, repo_id: str, revision: str) -> None:
        repository = self._repository(repo_id)
        if repository is not None:
            self._send_json(
                [
                    {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for path, content in repository.commits[repository.resolve(revision)].items()
                ]
            )

    def download(self, repo_id: str, revision: str, path: str) -> None:
        repository = self._repository(repo_id)
        if repository is None:
            return
        sha = repository.resolve(revision)
        if sha is None:
            return self._send_error(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        if path not in repository.commits[sha]:
            return self._send_error(HTTPStatus.NOT_FOUND, "EntryNotFound")
        content = repository.commits[sha][path]
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X_Repo_Commit": sha, "Accept_Ranges": "bytes"}
        if self.command == "HEAD":
            return self._send(content, **headers)
        file = (repo_id, path)
        if file in self.server.fail_once:
            self.server.fail_once.remove(file)
            return self._send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._send_content(file, content, headers)

    def _send_content(self, file: tuple[str, str], content: bytes, headers: dict[str, str]) -> None:
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        self.server.downloads.append((*file, start))
        status = HTTPStatus.OK
        if start:
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        end = self.server.break_after.pop(file, len(content))
        self._send(content[start:end], status, Content_Length=str(len(content) - start), **headers)
        self.close_connection = end < len(content)

    def preupload(self, repo_id: str) -> None:
        if self._repository(repo_id, writing=True) is None:
            return
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.body)["files"]
        ]
        self._send_json({"files": files})

    def large_file_batch(self, repo_id: str) -> None:
        if self._repository(repo_id, writing=True) is None:
            return
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.server.endpoint}/large-files/{each['oid']}"}}}
            for each in json.loads(self.body)["objects"]
        ]
        self._send_json({"transfer": "basic", "objects": objects})

    def upload_large_file(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._send_error(HTTPStatus.UNPROCESSABLE_ENTITY)
        self.server.large_files[oid] = self.body
        self._send(b"")

    def commit(self, repo_id: str) -> None:
        repository = self._repository(repo_id, writing=True)
        if repository is None:
            return
        files = dict(repository.files)
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.server.large_files[value["oid"]]
        sha = repository.commit(files)
        self._send_json({"commitUrl": f"{self.server.endpoint}/{repo_id}/commit/{sha}", "commitOid": sha})


def _errors_in_card(card: str) -> list[str]:
    """What the Hub asks of the metadata of a model card, as far as it is written down in its documentation."""
    match = re.match(r"---\n(.*?)\n---\n", card, flags=re.DOTALL)
    metadata = yaml.safe_load(match[1]) if match else None
    if not isinstance(metadata, dict):
        return ["There is no metadata."]
    lists = {name: metadata.get(name) or [] for name in ("tags", "language", "base_model")}
    lists = {name: [value] if isinstance(value, str) else value for name, value in lists.items()}
    checks = {
        "`tags` must be texts": all(isinstance(tag, str) for tag in lists["tags"]),
        "`language` must be ISO 639 codes": all(re.fullmatch("[a-z]{2,3}", code) for code in lists["language"]),
        "`base_model` must be repositories": all(
            re.fullmatch(r"[\w.-]+/[\w.-]+", name) for name in lists["base_model"]
        ),
        "`pipeline_tag` must be a task": metadata.get("pipeline_tag", "text-to-video") in {"text-to-video"},
        "`license` must be an identifier": re.fullmatch("[a-z0-9.-]+", metadata.get("license", "other")),
    }
    return [error for error, holds in checks.items() if not holds]


_REPO = r"(?P<repo_id>[\w.-]+/[\w.-]+)"
_ROUTES = [
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.validate_card),
    (rf"GET /api/models/{_REPO}", _Handler.info),
    (rf"GET /api/models/{_REPO}/revision/(?P<revision>[^/]+)", _Handler.info),
    (rf"GET /api/models/{_REPO}/tree/(?P<revision>[^/]+)", _Handler.tree),
    (rf"POST /api/(models|spaces)/{_REPO}/preupload/main", _Handler.preupload),
    (rf"POST /api/(models|spaces)/{_REPO}/commit/main", _Handler.commit),
    (rf"POST /{_REPO}\.git/info/lfs/objects/batch", _Handler.large_file_batch),
    (r"PUT /large-files/(?P<oid>\w+)", _Handler.upload_large_file),
    (rf"GET /{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.download),
]


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@dataclass
class Machine:
    """Where client code runs: its own process, with a cache of its own, that knows no Hub but the loopback one."""

    hub: LoopbackHub
    home: Path

    def run(self, script: str, *arguments: Any, python: str = sys.executable, **environment: str) -> dict[str, Any]:
        """Runs a script of this folder, and returns the JSON object that it prints last."""
        process = subprocess.run(
            [python, CLIENTS / script, *map(str, arguments)],
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
                "HF_ENDPOINT": self.hub.endpoint,
                "HF_HOME": str(self.home / "huggingface"),
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "OMP_NUM_THREADS": "1",
                **environment,
            },
            cwd=self.home,
            capture_output=True,
            text=True,
        )
        if process.returncode:
            pytest.fail(f"{script} {arguments} failed:\n{process.stderr}")
        return json.loads(process.stdout.splitlines()[-1])


@pytest.fixture
def machine(hub: LoopbackHub, tmp_path: Path) -> Machine:
    return Machine(hub, tmp_path)


@pytest.fixture(scope="session")
def pipe() -> LumosVideoPipeline:
    """The demo's pipeline at a tenth of its size, with random weights."""
    vqvae = CosmosVideoTokenizer(
        levels=(8, 5, 5, 5),
        encoder_block_out_channels=(8, 8, 16, 16),
        decode_block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        spatial_compression_ratio=16,
    )
    config = demo_config(vqvae.codebook_size, vqvae.config.spatial_compression_ratio)
    config.update({"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "num_key_value_heads": 2})
    config.update({"head_dim": 32, "num_hidden_layers": 2})
    torch.manual_seed(0)
    return LumosVideoPipeline(
        tokenizer=demo_text_tokenizer(),
        transformer=LumosForCausalLM(config).eval(),
        vqvae=vqvae.eval(),
        scheduler=MaskDecodingScheduler(),
        default_height=32,
        default_width=32,
        default_num_frames=5,
        default_fps=8,
        default_num_inference_steps=2,
        default_guidance_scale=1.5,
    )
