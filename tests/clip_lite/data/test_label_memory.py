"""A million labels: right, and in memory that the length of the table does not change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from clip_lite.data.labels import join_labels
from clip_lite.data.pairs import Corpus
from tests.clip_lite.data.test_labels import corpus

MILLION = 1_000_000
GROUPS = ("woman", "man", "")


def _longer_tables(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Of CSV and Parquet: a row for each of a million pictures; and three million rows of others besides."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = np.arange(MILLION)[::-1]
    names = pd.Series([f"{n:07d}.jpg" for n in numbers.tolist()])
    own = pd.DataFrame(
        {"file_name": names, "gender": np.array(GROUPS)[numbers % 3], "age": (numbers % 90).astype(str)}
    )
    strange = own.assign(file_name="strange" + names)
    own.to_csv(folder / "plain.csv", index=False)
    plain = (folder / "plain.csv").read_bytes()
    header, _, body = plain.partition(b"\n")
    other = body.replace(b".jpg", b"_.jpg")
    (folder / "longer.csv").write_bytes(header + b"\n" + body + 3 * other)
    yield folder / "plain.csv", folder / "longer.csv"
    parts = [pa.Table.from_pandas(frame, preserve_index=False) for frame in (own, strange, strange, strange)]
    for name, some in {"plain": parts[:1], "longer": parts}.items():
        with pq.ParquetWriter(folder / f"{name}.parquet", parts[0].schema) as writer:
            for part in some:
                writer.write_table(part)
    yield folder / "plain.parquet", folder / "longer.parquet"


def peak() -> float:
    """MiB that this process ever held; ``ru_maxrss`` would count what started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def joined_here(own: Corpus, table: Path | None) -> tuple[float, list[str]]:
    """Peak of this process once it has joined, and pictures whose labels are wrong."""
    if table is None:
        return peak(), []
    joined = join_labels(own, table)
    wrong = []
    for split, odd in (("test", 0), ("train", 1)):
        records = joined.splits[split].records
        for place in range(0, MILLION // 2, 997):
            number = 2 * place + odd
            gender = GROUPS[number % 3] or "unknown"
            if records[place].attributes != {"gender": gender, "place": "sea", "age": str(number % 90)}:
                wrong.append(records[place].id)
    return peak(), wrong


def joined_elsewhere(own: Corpus, table: Path | None) -> tuple[float, list[str]]:
    """The same of a child, which begins with what this process holds now."""
    read, write = os.pipe()
    if not os.fork():
        try:
            os.write(write, json.dumps(joined_here(own, table)).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.wait()
    with os.fdopen(read, "rb") as answer:
        return json.loads(answer.read())


def worker(folder: Path) -> dict[str, tuple[float, list[str]]]:
    """By table; ``corpus`` is of a child that joins nothing."""
    even, odd = ([f"x/{n:07d}.jpg" for n in range(start, MILLION, 2)] for start in (0, 1))
    own = corpus(*even, train=odd)
    tables = {"corpus": None} | {table.name: table for table in sorted(folder.iterdir())}
    return {name: joined_elsewhere(own, table) for name, table in tables.items()}


def test_a_million_labels_take_memory_for_the_pictures_and_none_for_the_table(tmp_path: Path) -> None:
    tables = list(_longer_tables(tmp_path))
    assert all(longer.stat().st_size > 3 * plain.stat().st_size for plain, longer in tables)
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    before, _ = found.pop("corpus")
    assert {name: wrong for name, (_, wrong) in found.items()} == {name: [] for name in found}
    grown = {name: mib - before for name, (mib, _) in found.items()}
    for ending in ("csv", "parquet"):
        assert grown[f"plain.{ending}"] > 20, "an index of a million ids"
        assert grown[f"longer.{ending}"] < 1.25 * grown[f"plain.{ending}"]


if __name__ == "__main__":
    print(json.dumps(worker(Path(sys.argv[1]))))
