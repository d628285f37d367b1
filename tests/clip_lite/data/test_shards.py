"""Pairs in tar files: read at random; what is damaged is named, what is hostile does no harm."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_lite.data import shard_index
from clip_lite.data.shards import ShardRecords, ShardStore
from clip_lite.errors import CommandError
from tests.clip_lite.data.conftest import pair, png, shard, write


def test_json_is_read_before_text_and_as_img2dataset_writes_it(tmp_path: Path) -> None:
    said = {"captions": [" one ", "", "two"], "id": "a", "cluster": "c", "attributes": {"x": "y"}}
    members = {
        "0.PNG": png(0),
        "0.json": json.dumps(said).encode(),
        "0.txt": b"ignored",
        "1.png": png(1),
        "1.json": b'\xef\xbb\xbf{"caption": "three", "url": "x", "attributes": null}',
        "2.png": png(2),
        "2.json": b"{}",
        "2.txt": "four \u00e9".encode(),
    }
    records = ShardRecords(ShardStore([write(tmp_path / "a.tar", members)]))
    assert records[0] == ("a", ("one", "two"), {"x": "y"}, "c")
    assert [record.captions for record in records[1:]] == [("three",), ("four é",)]
    assert records[-1].cluster == records[-1].id
    assert records[-1].id.startswith("a.tar:")


def test_what_is_no_pair_is_passed_over(tmp_path: Path) -> None:
    members = {
        "readme.md": b"x",
        **pair("0", 0),
        "1.png": png(1),
        "2.txt": b"no picture",
        "3.png": b"",
        "3.txt": b"an empty picture",
        "4.png": png(4),
        "4.pyd": b"x",
        **pair("5", 5),
        "5.seg.png": png(99),
        "6.png": png(6),
        "6.txt": b"x" * (shard_index.TEXT_LIMIT + 1),
    }
    store = ShardStore([write(tmp_path / "a.tar", members)])
    assert [store.read(row) for row in range(len(store))] == [png(0), png(5)]


def test_threads_read_side_by_side(folder: Path) -> None:
    store = ShardStore(sorted(folder.glob("train-*.tar")))
    rows = np.random.default_rng(0).integers(15, size=400).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(store.read, rows)) == [png(row) for row in rows]


def test_nothing_hostile_comes_through(tmp_path: Path) -> None:
    """Member names, links and pickles of a foreign shard are neither followed nor loaded."""
    struck = tmp_path / "struck"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (struck,))

    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for name, content in {
            **pair("../../escaped", 1),
            **pair("/absolute", 2),
            "3.png": png(3),
            "3.txt": b"caption 3",
            "3.pkl": pickle.dumps(Trap()),
            "3.pyd": pickle.dumps(Trap()),
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            for ending, target in (("png", "3.png"), ("txt", str(secret))):
                info = tarfile.TarInfo(f"linked{kind.decode()}.{ending}")
                info.type, info.linkname, info.size = kind, target, 100
                tar.addfile(info)
    records = ShardRecords(ShardStore([path]))
    assert [record.captions for record in records] == [("caption 1",), ("caption 2",), ("caption 3",)]
    assert not struck.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "in", "secret.txt"]


def _changed(path: Path, size: bytes, kind: bytes = tarfile.REGTYPE) -> Path:
    """The first member's header claims another size and kind; its checksum is right."""
    content = bytearray(path.read_bytes())
    content[124:136] = size
    content[156:157] = kind
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("size", "claimed"),
    [
        (b"%011o\0" % 8_000_000_000, "8000000000"),
        (b"\x80" + b"\xff" * 7 + b"\0" * 4, str((2**56 - 1) << 32)),
        (b"\xff" * 11 + b"\xfb", "-5"),
    ],
)
def test_a_member_that_claims_a_wild_size_is_refused(tmp_path: Path, size: bytes, claimed: str) -> None:
    path = _changed(shard(tmp_path / "a.tar", range(3)), size)
    with pytest.raises(
        CommandError, match=rf"{path} is no whole .*member 000000\.png claims {claimed} bytes"
    ):
        ShardStore([path])


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_an_extended_header_that_claims_a_wild_size_is_refused(tmp_path: Path, kind: bytes) -> None:
    path = _changed(shard(tmp_path / "a.tar", range(3)), b"\x80" + b"\xff" * 7 + b"\0" * 4, kind=kind)
    with pytest.raises(CommandError, match=f"{path} is no whole uncompressed tar file"):
        ShardStore([path])


def test_endless_extended_headers_are_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    path = tmp_path / "a.tar"
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) * 5000)
    with pytest.raises(CommandError, match=f"{path} is no whole uncompressed tar file"):
        ShardStore([path])


@pytest.mark.parametrize("damage", ["cut", "cut in a header", "overwritten", "compressed", "text", "empty"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    path = shard(tmp_path / "a.tar", range(3))
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        third = tar.getmembers()[2].offset
    if damage == "compressed":
        with tarfile.open(path, "w:gz") as tar:
            tar.addfile(tarfile.TarInfo("0.txt"))
    else:
        damaged = {
            "cut": content[: third + 520],
            "cut in a header": content[: third + 100],
            "overwritten": content[:third] + b"\1" * 512 + content[third + 512 :],
            "text": b"no tar at all" * 100,
            "empty": b"",
        }
        path.write_bytes(damaged[damage])
    with pytest.raises(CommandError, match=f"{path} is no whole uncompressed tar file") as caught:
        ShardStore([path])
    assert "\n" not in str(caught.value)


def test_a_shard_without_pairs_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", {"0.mp4": b"x", "0.txt": b"a film"})
    with pytest.raises(CommandError, match=rf"{path}: no member is a picture \(jpg, jpeg, png, webp\)"):
        ShardStore([path])


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"[1, 2]", "no JSON object"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"captions": []}', "no caption in .txt or .json"),
        (b'{"caption": null}', "no caption in .txt or .json"),
    ],
)
def test_json_that_says_nothing_is_refused_by_shard_and_member(
    tmp_path: Path, said: bytes, reason: str
) -> None:
    path = write(tmp_path / "a.tar", {**pair("0", 0), "1.png": png(1), "1.json": said})
    records = ShardRecords(ShardStore([path]))
    assert records[0].captions == ("caption 0",)
    with pytest.raises(CommandError, match=rf"{path}, member 1\.json.*{reason}"):
        _ = records[1]
