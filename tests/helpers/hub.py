"""A local stand-in for Hugging Face's hub: listings, files and renamed repositories."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tasnb.fetch.sources import Sources

ROOT = Path(__file__).resolve().parents[2]

_TOKENIZER = ("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")
_OPENAI = (".gitattributes", "README.md", "merges.txt", "open_clip_config.json", "vocab.json",
           "open_clip_model.safetensors", "open_clip_pytorch_model.bin", *_TOKENIZER)  # fmt: skip
_SAM2 = (".gitattributes", "README.md", "config.json", "model.safetensors",
         "preprocessor_config.json", "processor_config.json",
         "video_preprocessor_config.json")  # fmt: skip
PUBLISHED: dict[str, tuple[str, ...]] = {
    "facebook/sam-vit-base": (
        ".gitattributes", "README.md", "config.json", "model.safetensors",
        "preprocessor_config.json", "pytorch_model.bin", "tf_model.h5",
    ),
    "Salesforce/blip2-opt-2.7b": (
        ".gitattributes", "README.md", "added_tokens.json", "config.json",
        "generation_config.json", "merges.txt", "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors", "model.safetensors.index.json",
        "preprocessor_config.json", "processor_config.json", "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json", "vocab.json",
        *_TOKENIZER,
    ),
    "facebook/sam2.1-hiera-large": (*_SAM2, "sam2.1_hiera_l.yaml", "sam2.1_hiera_large.pt"),
    "facebook/sam2.1-hiera-tiny": (*_SAM2, "sam2.1_hiera_t.yaml", "sam2.1_hiera_tiny.pt"),
    "OpenGVLab/InternVL3-1B-hf": (
        ".gitattributes", "README.md", "added_tokens.json", "chat_template.jinja", "config.json",
        "generation_config.json", "merges.txt", "model.safetensors", "preprocessor_config.json",
        "processor_config.json", "video_preprocessor_config.json", "vocab.json", *_TOKENIZER,
    ),
    "timm/ViT-SO400M-16-SigLIP2-384": (
        ".gitattributes", "README.md", "open_clip_config.json", "open_clip_model.safetensors",
        "open_clip_pytorch_model.bin", *_TOKENIZER,
    ),
    "timm/resnet50_clip.openai": _OPENAI,
    "timm/vit_base_patch32_clip_224.openai": _OPENAI,
    "microsoft/git-base-coco": (
        ".gitattributes", "README.md", "config.json", "generation_config.json",
        "preprocessor_config.json", "pytorch_model.bin", "vocab.txt", *_TOKENIZER,
    ),
    "Salesforce/blip2-itm-vit-g": (
        ".gitattributes", "README.md", "added_tokens.json", "config.json", "model.safetensors",
        "preprocessor_config.json", "processor_config.json", "vocab.txt", *_TOKENIZER,
    ),
    "google-bert/bert-base-uncased": (
        ".gitattributes", "LICENSE", "README.md", "config.json", "flax_model.msgpack",
        "model.safetensors", "pytorch_model.bin", "rust_model.ot", "tf_model.h5",
        "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    ),
    "xinlongwang/FreeSOLO": ("FreeSOLO_R101_30k_pl.pth",),
    "hf-internal-testing/blip-test-image": (".gitattributes", "demo.jpg"),
    "ybelkada/segment-anything": (".gitattributes", "README.md", "assets/car.png"),
}  # fmt: skip
"""Repository -> what is on its main branch. GIT's safetensors, of refs/pr/1, are not. Taken from
copies of the hub's pages, except for those in ``INFERRED``."""

_OF_SAM2 = (
    "The page of hiera-tiny in 2024 has only the authors' two files. Those for transformers came "
    "in 2025, since its tests load them by this name. danelcsb/sam2.1_hiera_tiny, an earlier home "
    "of them, has config.json, model.safetensors (156 MB) and preprocessor_config.json."
)
INFERRED: dict[str, str] = {
    "facebook/sam2.1-hiera-large": _OF_SAM2,
    "facebook/sam2.1-hiera-tiny": _OF_SAM2,
    "OpenGVLab/InternVL3-1B-hf": (
        "From the pages of InternVL3-8B-hf and -14B-hf, whose weights are in shards, and from that "
        "of InternVL3-1B, whose single file of 1.88 GB needs none."
    ),
    "timm/ViT-SO400M-16-SigLIP2-384": (
        "From the pages of ViT-SO400M-16-SigLIP2-256 and ViT-SO400M-14-SigLIP2, which are alike."
    ),
}
"""Repository -> what its listing was inferred from: no page of it as it is now was at hand."""

LEAST: dict[str, tuple[str, ...]] = {
    "facebook/sam2.1-hiera-large": ("config.json", "model.safetensors"),
    "facebook/sam2.1-hiera-tiny": ("config.json", "model.safetensors"),
    "OpenGVLab/InternVL3-1B-hf": (
        "chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ),
    "timm/ViT-SO400M-16-SigLIP2-384": ("open_clip_model.safetensors", *_TOKENIZER),
}  # fmt: skip
"""Of each repository in ``INFERRED``, what a model cannot be loaded without, but for the
configuration of the processor, which may be in one of two files."""

RENAMED = {"bert-base-uncased": "google-bert/bert-base-uncased"}


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def bodies(names: tuple[str, ...]) -> dict[str, bytes]:
    """A few bytes for each name; an index lists the shards next to it."""
    found = {name: b"{}" if name.endswith(".json") else name.encode() for name in names}
    for name in names:
        if name.endswith(".index.json"):
            kind = name.removesuffix(".index.json")
            stem, _, suffix = kind.rpartition(".")
            shards = [other for other in names if re.fullmatch(rf"{stem}-.*\.{suffix}", other)]
            weights = {f"layer.{k}.weight": shard for k, shard in enumerate(shards)}
            found[name] = json.dumps({"weight_map": weights}).encode()
    return found


class HubSite:
    """A hub: repositories with files by name, and a log of requests.

    Attributes:
        address: The address of the server, for HF_ENDPOINT.
        files: Repository -> name -> content, on the main branch.
        refused: Repository -> status and code of the answer to requests for its files.
        asked: Method and path of every request.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, dict[str, bytes]] = {}
        self.refused: dict[str, tuple[int, str]] = {}
        self.asked: list[tuple[str, str]] = []

    def put(self, repo: str, files: Mapping[str, bytes]) -> None:
        self.files[repo] = dict(files)

    def commit(self, repo: str) -> str:
        return sha1(repr((repo, sorted(self.files[repo].items()))).encode())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: HubSite

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.site.asked.append((self.command, self.path))
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/models/(.+?)(?:/(revision|tree)/([^/]+)(?:/(.+))?)?", path):
            self.list(path, *found.groups())
        elif found := re.fullmatch(r"/(cdn/)?(.+?)/resolve/([^/]+)/(.+)", path):
            self.send_file(path, *found.groups())
        else:
            self.answer(404)

    def known(self, path: str, repo: str, revision: str | None) -> bool:
        """Whether this branch or commit exists; if not, the client gets an answer that says so."""
        if repo in RENAMED:  # to the same place under the new name
            self.answer(307, Location=path.replace(repo, RENAMED[repo], 1))
        elif repo not in self.site.files:
            self.answer(401, X_Error_Code="RepoNotFound")
        elif repo in self.site.refused and "/resolve/" in path:
            status, code = self.site.refused[repo]
            self.answer(status, **({"X_Error_Code": code} if code else {}))
        elif revision not in (None, "main", self.site.commit(repo)):
            self.answer(404, X_Error_Code="RevisionNotFound")
        else:
            return True
        return False

    def list(
        self, path: str, repo: str, what: str | None, revision: str | None, folder: str | None
    ) -> None:
        if not self.known(path, repo, revision):
            return
        if folder:  # none of these repositories has any
            self.answer(404, X_Error_Code="EntryNotFound")
            return
        files = self.site.files[repo]
        about: object = {
            "id": repo, "modelId": repo, "sha": self.site.commit(repo), "private": False,
            "siblings": [{"rfilename": name} for name in files],
        }  # fmt: skip
        if what == "tree":
            about = [
                {"type": "file", "path": name, "size": len(body), "oid": sha1(body)}
                for name, body in files.items()
            ]
        self.answer(200, json.dumps(about).encode(), Content_Type="application/json")

    def send_file(self, path: str, cdn: str | None, repo: str, revision: str, name: str) -> None:
        if not self.known(path, repo, revision):
            return
        body = self.site.files[repo].get(name)
        if body is None:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=self.site.commit(repo))
            return
        digest = f'"{hashlib.sha256(body).hexdigest()}"'
        about = {"X_Repo_Commit": self.site.commit(repo)}
        if not cdn and name.endswith((".bin", ".safetensors")):  # large files are elsewhere
            about |= {"X_Linked_Size": len(body), "X_Linked_ETag": digest}
            self.answer(302, Location=f"{self.site.address}/cdn{path}", **about)
        else:
            self.answer(200, body, ETag=digest, **about)

    def answer(self, status: int, body: bytes = b"", **headers: object) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[HubSite]:
    """A hub with everything in the table, as published except for the sizes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.site = HubSite(f"http://127.0.0.1:{server.server_port}")
    for repo, names in PUBLISHED.items():
        Handler.site.put(repo, bodies(names))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield Handler.site
    server.shutdown()
    server.server_close()
    thread.join()


FETCH = """
import sys
from tasnb import fetch
from tasnb.cli.arguments import main
from tasnb.fetch.sources import Sources
sources = Sources.model_validate_json(sys.argv[1])
fetch.load_sources = lambda: sources
sys.exit(main(["fetch", "--to", *sys.argv[2:]]))
"""


def with_hub(
    hub: HubSite, home: Path, *command: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python with the real libraries, connected to this hub."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    own |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "no_proxy": "*", **env}
    return subprocess.run(
        [sys.executable, *command],
        env={**own, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def fetch_from(
    hub: HubSite, home: Path, sources: Sources, *names: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m tasnb fetch` with another table."""
    table = sources.model_dump_json()
    return with_hub(hub, home, "-c", FETCH, table, str(home / "data"), *names, **env)
