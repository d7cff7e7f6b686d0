"""Time and peak memory of importing one large file in each format, each in a process of its own.

Run: python tests/benchmarks/import_memory.py [--megabytes 300] [--folder DIR]
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROW_BYTES = 1100
MEGABYTE = 1_000_000
WORDS = [f"word{number}" for number in range(5000)]
KINDS = ("jsonl", "json", "csv", "parquet")
PARQUET_BATCH = 50_000


def make_rows(count: int) -> Iterator[dict[str, str]]:
    """Different prompts of 70 words with answers of 50."""
    draw = random.Random(1)
    for number in range(count):
        prompt = f"Question {number}: {' '.join(draw.choices(WORDS, k=70))}"
        answer = " ".join(draw.choices(WORDS, k=50))
        yield {"prompt": prompt, "response": answer, "category": f"c{number % 7}"}


def write(path: Path, kind: str, count: int) -> None:
    """Write the rows in one format, at bounded memory."""
    rows = make_rows(count)
    if kind == "parquet":
        write_parquet(path, rows)
        return
    with path.open("w", encoding="utf-8", newline="") as stream:
        if kind == "csv":
            writer = csv.writer(stream)
            writer.writerow(["prompt", "response", "category"])
            writer.writerows(row.values() for row in rows)
            return
        stream.write("[" if kind == "json" else "")
        for number, row in enumerate(rows):
            between = ("," if kind == "json" else "\n") if number else ""
            stream.write(between + json.dumps(row))
        stream.write("]" if kind == "json" else "\n")


def write_parquet(path: Path, rows: Iterator[dict[str, str]]) -> None:
    """Uncompressed and without dictionaries, so that the file is as large as the others."""
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([(name, "string") for name in ("prompt", "response", "category")])
    options = {"compression": "none", "use_dictionary": False}
    with parquet.ParquetWriter(path, schema, **options) as writer:
        while batch := list(itertools.islice(rows, PARQUET_BATCH)):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))


def measure(step: str, path: Path) -> None:
    """Read or import a file in this process and print seconds, base and peak in megabytes."""
    from llamaduo_gui.data.reading import RecordReader
    from llamaduo_gui.data.sources import open_source
    from llamaduo_gui.pipeline.create import create_project

    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    if step == "rows":
        count = sum(1 for _ in open_source(path).rows())
    elif step == "records":
        count = sum(1 for _ in RecordReader(path))
    else:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            count = sum(create_project(Path(folder) / "p", [path]).splits.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = time.perf_counter() - started
    print(
        f"{count:>9,} {seconds:6.1f} s {base / 1024:5.0f} MB before {peak / 1024:5.0f} MB at most"
    )


def main() -> None:
    """Write the files and measure each step on each in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=None, help="where the files go")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        kind, path, count = arguments.write
        write(Path(path), kind, int(count))
        return
    if arguments.measure:
        measure(arguments.measure[0], Path(arguments.measure[1]))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for kind in KINDS:
            path = Path(folder) / f"data.{kind}"
            count = arguments.megabytes * MEGABYTE // ROW_BYTES
            # In a process of its own: a child's peak begins with the memory of its parent.
            written = [sys.executable, __file__, "--write", kind, str(path), str(count)]
            subprocess.run(written, check=True)
            size = path.stat().st_size / MEGABYTE
            for step in ("rows", "records", "project"):
                command = [sys.executable, __file__, "--measure", step, str(path)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                print(f"{kind:<8} {size:4.0f} MB {step:<8} {done.stdout.rstrip()}", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
