"""datatrove's MinHash blocks as a process to be timed; runs in datatrove's own environment, imports nothing of ours.

`python dedup_datatrove.py FOLDER SCRATCH BUCKETS HASHES_PER_BUCKET WORKERS` prints one JSON object. Its grams are ours:
5 words as they are between white space (its default, spaCy's words in lower case without punctuation, takes longer).
"""

import json
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.text import TextNormConfig
from datatrove.utils.word_tokenizers import WordTokenizer


class SplitWords(WordTokenizer):
    """str.split()."""

    def word_tokenize(self, text: str) -> list[str]:
        """The words between white space."""
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        """Not needed."""
        raise NotImplementedError

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Not needed."""
        raise NotImplementedError


AS_IS = TextNormConfig(
    lowercase=False,
    norm_whitespace=False,
    remove_punctuation=False,
    norm_unicode_diacritics=False,
    norm_numbers=False,
    norm_weekdays=False,
    norm_monthnames=False,
)


def main() -> None:
    """Run the four blocks one after the other."""
    folder, scratch = sys.argv[1], Path(sys.argv[2])
    buckets, hashes, workers = map(int, sys.argv[3:])
    config = MinhashConfig(n_grams=5, num_buckets=buckets, hashes_per_bucket=hashes, norm_config=AS_IS)
    files = len(list(Path(folder).glob("*.jsonl")))
    reader = JsonlReader(folder, glob_pattern="*.jsonl", compression=None)
    signatures, pairs, removed = (str(scratch / name) for name in ("signatures", "pairs", "removed"))
    steps = {
        "signature": ([reader, MinhashDedupSignature(signatures, config, SplitWords())], files),
        "buckets": ([MinhashDedupBuckets(signatures, pairs, config=config)], buckets),
        "cluster": ([MinhashDedupCluster(pairs, removed, config=config)], 1),
        "filter": ([reader, MinhashDedupFilter(removed), JsonlWriter(str(scratch / "kept"), compression=None)], files),
    }
    seconds = {}
    for name, (pipeline, tasks) in steps.items():
        start = time.monotonic()
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=tasks, workers=min(workers, tasks), logging_dir=str(scratch / "logs" / name)
        ).run()
        seconds[name] = time.monotonic() - start
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
