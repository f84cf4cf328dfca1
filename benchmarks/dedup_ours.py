"""Our de-duplication as a process to be timed: JSON lines on disk to decisions.

`python -m benchmarks.dedup_ours FOLDER SCRATCH THRESHOLD WORKERS [--pairs FILE]` prints one JSON object. The texts are
sketched and put into Parquet by WORKERS processes, a file at a time, as `build` does.
"""

import argparse
import json
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyarrow.json
import pyarrow.parquet

from gpt2lab.base.machine import PeakMemory
from gpt2lab.base.workers import Advance
from gpt2lab.webtext.duplicates.sketch import sketch
from gpt2lab.webtext.engine import daft_engine
from gpt2lab.webtext.workers import run_tasks

BYTES_AT_ONCE = 1 << 22  # more than the longest document


def main() -> None:
    """Do it and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("threshold", type=float)
    parser.add_argument("workers", type=int)
    parser.add_argument("--pairs", type=Path, help="write the verified pairs to this file, too (not timed)")
    parser.add_argument("--memory", action="store_true", help="watch the memory, which costs some time")
    asked = parser.parse_args()
    files = sorted(asked.folder.glob("*.jsonl"))
    asked.scratch.mkdir(parents=True)
    stage_files = [asked.scratch / f"{file.stem}.parquet" for file in files]
    memory = PeakMemory()
    with memory if asked.memory else nullcontext():
        start = time.monotonic()
        threading.Thread(target=daft_engine).start()  # ready when the workers are
        tasks = [(file, stage, asked.threshold) for file, stage in zip(files, stage_files, strict=True)]
        run_tasks(sketch_file, tasks, asked.workers, lambda _: None)
        sketched = time.monotonic()
        from gpt2lab.webtext.duplicates.find import find_duplicates, find_similar_pairs  # of no use to the workers

        decisions = find_duplicates(stage_files, asked.scratch / "duplicates", asked.threshold)
        found = time.monotonic()
    if asked.pairs:
        pairs = find_similar_pairs(stage_files, asked.scratch / "pairs", asked.threshold)
        asked.pairs.write_text(json.dumps([[int(a, 16), int(b, 16)] for a, b in sorted(pairs)]))
    seconds = {"sketch": sketched - start, "find": found - sketched}
    result = {"seconds": seconds, "peak_memory_bytes": memory.peak, "removed": sum(decisions.counts().values())}
    print(json.dumps(result))


def sketch_file(source: Path, stage_file: Path, threshold: float, advance: Advance) -> None:
    """One file of documents with their sketches."""
    schema = pyarrow.schema(
        [(name, pyarrow.string()) for name in ("id", "url_key", "text", "reason")]
        + [("characters", pyarrow.int64()), ("text_hash", pyarrow.binary(16)), ("bands", pyarrow.binary())]
    )
    writing = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    options = pyarrow.json.ReadOptions(use_threads=False, block_size=BYTES_AT_ONCE)
    with (
        pyarrow.json.open_json(source, options) as batches,
        pyarrow.parquet.ParquetWriter(stage_file, schema, **writing) as out,
    ):
        for batch in batches:
            texts = batch["text"].to_pylist()
            sketches = sketch(texts, threshold)
            columns = {
                "id": batch["id"],
                "url_key": pyarrow.nulls(len(texts), pyarrow.string()),
                "text": batch["text"],
                "reason": pyarrow.nulls(len(texts), pyarrow.string()),
                "characters": pyarrow.compute.utf8_length(batch["text"]).cast(pyarrow.int64()),
                "text_hash": sketches.text_hashes,
                "bands": sketches.bands,
            }
            out.write_table(pyarrow.table(columns, schema))
    advance(1)


if __name__ == "__main__":
    main()
