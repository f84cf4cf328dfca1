"""The peer of benchmarks/build.py, run by the Python of datatrove's own environment: a build with datatrove's blocks.

`python datatrove_build.py PAGES OUT WORKERS`: WARC files in, Parquet out, with the steps and settings that FineWeb was
made with (datatrove's examples/fineweb.py), but for its lists of URLs and its language model, which would have to be
downloaded: reading, trafilatura in precision mode, ftfy, the filters of Gopher, C4 and FineWeb, removed documents
kept beside, MinHash de-duplication in four steps.
"""

import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.formatters import FTFYFormatter
from datatrove.pipeline.readers import ParquetReader, WarcReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.hashing import HashConfig


def main(pages: str, out: str, workers: int) -> None:
    """Run all steps, one after the other, each on `workers` processes."""
    tasks = len(list(Path(pages).glob("*.warc.gz")))
    config = MinhashConfig(hash_config=HashConfig(precision=64), num_buckets=14, hashes_per_bucket=8, n_grams=5)

    def run(name: str, pipeline: list, tasks: int) -> None:
        logs = f"{out}/logs/{name}"
        LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=workers, logging_dir=logs).run()

    def removed(name: str) -> ParquetWriter:
        return ParquetWriter(f"{out}/removed/{name}")

    run(
        "extract",
        [
            WarcReader(pages, glob_pattern="*.warc.gz"),
            Trafilatura(favour_precision=True, timeout=10),
            FTFYFormatter(),
            GopherRepetitionFilter(exclusion_writer=removed("repetition")),
            GopherQualityFilter(exclusion_writer=removed("quality")),
            C4QualityFilter(filter_no_terminal_punct=False, exclusion_writer=removed("c4")),
            FineWebQualityFilter(exclusion_writer=removed("fineweb")),
            ParquetWriter(f"{out}/filtered"),
        ],
        tasks,
    )
    reader = ParquetReader(f"{out}/filtered")
    run("signatures", [reader, MinhashDedupSignature(f"{out}/signatures", config=config)], tasks)
    run("buckets", [MinhashDedupBuckets(f"{out}/signatures", f"{out}/buckets", config=config)], config.num_buckets)
    run("clusters", [MinhashDedupCluster(f"{out}/buckets", f"{out}/remove_ids", config=config)], 1)
    keep = [
        reader,
        MinhashDedupFilter(f"{out}/remove_ids", exclusion_writer=removed("duplicates")),
        ParquetWriter(f"{out}/documents"),
    ]
    run("filter", keep, tasks)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
