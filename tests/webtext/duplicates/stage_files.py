"""Stage files as `build` writes them, and the truth about texts by brute force."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from gpt2lab.webtext.duplicates.find import KINDS, Decisions
from gpt2lab.webtext.duplicates.sketch import sketch

SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("url_key", pyarrow.string()),
        ("text", pyarrow.string()),
        ("characters", pyarrow.int64()),
        ("text_hash", pyarrow.binary(16)),
        ("bands", pyarrow.binary()),
        ("reason", pyarrow.string()),
    ]
)


def write_stage_file(path: Path, rows: Sequence[dict[str, Any]], threshold: float | None = 0.8) -> Path:
    """Rows need id and text, and may have url and reason; those with a reason get no sketch."""
    kept = [row for row in rows if row.get("reason") is None]
    sketches = sketch([row["text"] for row in kept], threshold)
    for n, row in enumerate(kept):
        row["characters"] = len(row["text"])
        row["text_hash"] = sketches.text_hashes[n]
        row["bands"] = sketches.bands[n] if sketches.bands is not None else None
    table = pyarrow.Table.from_pylist([{name: row.get(name) for name in SCHEMA.names} for row in rows], SCHEMA)
    pyarrow.parquet.write_table(table, path, row_group_size=100)
    return path


def write_stage_files(folder: Path, rows: Sequence[dict[str, Any]], rows_a_file: int, threshold: float | None = 0.8):
    folder.mkdir(parents=True)
    return [
        write_stage_file(folder / f"{start:06d}.parquet", rows[start : start + rows_a_file], threshold)
        for start in range(0, len(rows), rows_a_file)
    ]


def removals(decisions: Decisions, files: Sequence[Path]) -> dict[str, tuple[str, str, float]]:
    """id -> (kind, id of the survivor, similarity) of every removed document."""
    found = {}
    for n, file in enumerate(files):
        ids = pyarrow.parquet.read_table(file, columns=["id"])["id"].to_pylist()
        some = decisions.of_file(n)
        assert len(ids) == len(some.kinds) == len(some.survivors) == len(some.similarities)
        for id_, kind, survivor, similarity in zip(ids, some.kinds, some.survivors, some.similarities, strict=True):
            if kind:
                found[id_] = (KINDS[kind], survivor.decode(), float(similarity))
            else:
                assert (survivor, similarity) == (b"", 0)
    return found


def grams(text: str) -> frozenset[tuple[str, ...]]:
    words = text.split()
    n = min(5, len(words))
    return frozenset(tuple(words[k : k + n]) for k in range(len(words) - n + 1)) if words else frozenset()


def jaccard(a: str, b: str) -> float:
    return len(grams(a) & grams(b)) / len(grams(a) | grams(b)) if a.split() or b.split() else 1.0


def similar_pairs(texts: dict[str, str], threshold: float) -> dict[tuple[str, str], float]:
    sets = [(id_, grams(text)) for id_, text in sorted(texts.items())]
    found = {}
    for (a, a_grams), (b, b_grams) in combinations(sets, 2):
        shared = len(a_grams & b_grams)
        if shared and shared / (len(a_grams) + len(b_grams) - shared) >= threshold:
            found[a, b] = shared / (len(a_grams) + len(b_grams) - shared)
    return found


def components(ids: Sequence[str], pairs: Sequence[tuple[str, str]]) -> set[frozenset[str]]:
    component = {id_: frozenset([id_]) for id_ in ids}
    for a, b in pairs:
        if component[a] is not component[b]:
            joined = component[a] | component[b]
            component.update(dict.fromkeys(joined, joined))
    return set(component.values())
