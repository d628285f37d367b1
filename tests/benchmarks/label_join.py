"""A table of labels joined in parts, beside all of it at once: ``python tests/benchmarks/label_join.py``.

1,000,000 pictures; CSV and Parquet with a row for each, two labels, and three million rows more that match
nothing. Memory is the peak of a process that joins, less the peak of one that only has the corpus. The other
way reads the whole table with pandas and merges it with a frame of ids. A minute and a half on one core.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from common import machine

from clip_lite.data.labels import join_labels
from clip_lite.data.pairs import Corpus, Flag, PairTable, Record

PICTURES = 1_000_000
PART = 250_000  # rows written at a time
GROUPS = ("woman", "man", "")


def corpus(count: int = PICTURES) -> Corpus:
    """Records without pictures, a tenth of them in ``val`` and in ``test`` each."""
    none = np.zeros((1, 3, 1, 1), dtype=np.uint8)
    ends = {
        "train": (0, count * 8 // 10),
        "val": (count * 8 // 10, count * 9 // 10),
        "test": (count * 9 // 10, count),
    }
    splits = {
        split: PairTable(
            none,
            [Record(f"all/{n:09d}.jpg", (), {}, str(n)) for n in range(*span)],
            np.zeros(span[1] - span[0], int),
        )
        for split, span in ends.items()
    }
    return Corpus("planted", splits, (), (), Flag(None), Flag(None), captioned=False)


def write_table(path: Path, *, times: int, count: int = PICTURES) -> Path:
    """A row for each picture, from the last to the first, then ``times`` - 1 as many rows of others."""
    numbers = np.concatenate([np.arange(count)[::-1], np.arange(count, times * count)])
    writer = None
    for start in range(0, len(numbers), PART):
        own = numbers[start : start + PART]
        part = pd.DataFrame(
            {
                "file_name": [f"{n:09d}.jpg" for n in own.tolist()],
                "gender": np.array(GROUPS)[own % 3],
                "age": (own % 90).astype(str),
            }
        )
        if path.suffix == ".csv":
            part.to_csv(path, mode="a", header=not start, index=False)
            continue
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(part, preserve_index=False)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()
    return path


def at_once(own: Corpus, path: Path) -> pd.DataFrame:
    """All ids, the whole table, and both merged."""
    ids = pd.DataFrame({"id": [record.id for table in own.splits.values() for record in table.records]})
    ids["file_name"] = ids["id"].str.rpartition("/")[2]
    table = (
        pd.read_csv(path, dtype=str, keep_default_na=False)
        if path.suffix == ".csv"
        else pd.read_parquet(path)
    )
    return ids.merge(table, on="file_name", how="left")


WAYS: dict[str, Callable[[Corpus, Path], object]] = {
    "corpus": lambda own, path: None,
    "parts": join_labels,
    "at once": at_once,
}


def peak(way: str, path: Path) -> tuple[float, float]:
    """MiB that this process ever held, and seconds of the join."""
    own = corpus()
    begin = time.perf_counter()
    kept = WAYS[way](own, path)
    seconds = time.perf_counter() - begin
    del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, seconds


def measured(way: str, path: Path) -> tuple[float, float]:
    """The same of a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, way, str(path)], check=True, capture_output=True, text=True
    )
    mib, seconds = done.stdout.split()[-2:]
    return float(mib), float(seconds)


def main() -> None:
    """Print memory and time of both ways for both formats and lengths."""
    print(f"{machine()}; {PICTURES:,} pictures, two labels")
    with tempfile.TemporaryDirectory() as folder:
        base, _ = measured("corpus", Path(folder))
        print(f"the corpus alone: {base:.0f} MiB")
        for ending in (".csv", ".parquet"):
            held = {}
            for times in (1, 4):
                path = write_table(Path(folder) / f"labels{times}{ending}", times=times)
                for way in ("parts", "at once"):
                    mib, seconds = measured(way, path)
                    held[way, times] = mib - base
                    print(
                        f"{ending} of {times * PICTURES:,} rows, {way}: {mib - base:.0f} MiB, {seconds:.1f} s"
                    )
                path.unlink()
            for way in ("parts", "at once"):
                print(f"{ending}, {way}: memory, longer table / plain one {held[way, 4] / held[way, 1]:.2f}")
            print(f"{ending}, longer table, parts / at once: {held['parts', 4] / held['at once', 4]:.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(*peak(sys.argv[1], Path(sys.argv[2])))
    else:
        main()
