"""Lay an image down as the OCI image layout has it.

In:   layers (tar archives), a configuration
Out:  a folder that skopeo, buildah, crane and containerd read; the digest that names the image
Shell over one folder. Equal layers and configuration, equal digest.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """How a container of the image starts."""

    user: str
    entrypoint: tuple[str, ...]
    environment: tuple[str, ...]
    labels: Mapping[str, str]
    architecture: str
    reference: str


@dataclass(frozen=True, slots=True)
class _Blob:
    digest: str
    size: int

    def described(self, kind: str) -> dict[str, Any]:
        return {"mediaType": kind, "digest": self.digest, "size": self.size}


def write_layout(folder: Path, layers: Sequence[Path], config: ImageConfig, *, epoch: int) -> str:
    """Write the whole layout in place of an older one; return the manifest's digest."""
    shutil.rmtree(folder, ignore_errors=True)
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    packed = [_pack(blobs, layer) for layer in layers]
    content = _json(blobs, _configuration(config, layers, epoch=epoch))
    manifest = _json(
        blobs,
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": content.described(_CONFIG),
            "layers": [blob.described(_LAYER) for blob in packed],
        },
    )
    named = {"org.opencontainers.image.ref.name": config.reference}
    index = {
        "schemaVersion": 2,
        "manifests": [manifest.described(_MANIFEST) | {"annotations": named}],
    }
    (folder / "index.json").write_bytes(_encode(index))
    (folder / "oci-layout").write_bytes(_encode({"imageLayoutVersion": "1.0.0"}))
    return manifest.digest


def _configuration(config: ImageConfig, layers: Sequence[Path], *, epoch: int) -> dict[str, Any]:
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "created": created,
        "architecture": config.architecture,
        "os": "linux",
        "config": {
            "User": config.user,
            "Env": list(config.environment),
            "Entrypoint": list(config.entrypoint),
            "WorkingDir": "/",
            "Labels": dict(config.labels),
        },
        "rootfs": {"type": "layers", "diff_ids": [_digest_of(layer) for layer in layers]},
        "history": [{"created": created, "created_by": "python -m images"} for _ in layers],
    }


def _pack(blobs: Path, layer: Path) -> _Blob:
    """Compress a layer: without the name and time that gzip would note."""
    packed = blobs / "packing"
    with (
        layer.open("rb") as source,
        packed.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as target,
    ):
        shutil.copyfileobj(source, target, _CHUNK_BYTES)
    digest = _digest_of(packed)
    final = packed.rename(blobs / digest.removeprefix("sha256:"))
    return _Blob(digest, final.stat().st_size)


def _json(blobs: Path, value: object) -> _Blob:
    data = _encode(value)
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return _Blob(f"sha256:{digest}", len(data))


def _encode(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
