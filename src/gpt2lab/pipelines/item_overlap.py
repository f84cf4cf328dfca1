"""How much of a task's items is in a model's training documents, and its score on the items that are not."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gpt2lab.evaluate.results import ItemOverlap, Row
from gpt2lab.evaluate.tasks.task import Task
from gpt2lab.webtext.overlap.overlap import DocumentOverlap, overlap_with_documents


def items_overlap(
    texts_of: Mapping[str, Sequence[str]], training: Sequence[Path], workers: int = 0
) -> dict[str, tuple[DocumentOverlap, ...]]:
    """Of each task's items their 8-grams and how many of these are in the training documents, by the tasks' labels.

    `texts_of` are the items' texts (`Question.text`) in their order; `training` folders that `build` made, Parquet
    files, texts. The documents are read once for all tasks. Raises BadInput where a place can't be read.
    """
    return {label: found.per_document for label, found in overlap_with_documents(texts_of, training, workers).items()}


def item_overlap(
    task: Task, rows: Sequence[Row], items: Sequence[DocumentOverlap], training: Sequence[Path]
) -> ItemOverlap:
    """One task's overlap; its metrics without every item that has any overlap at all, as the paper has them.

    "Excluding all examples with any overlap shifts results from 8.6 to 8.7 perplexity" (Radford et al. 2019, section
    4, on LAMBADA). `rows` and `items` are of the same items in the same order. Where every item overlaps, no metrics
    are left.
    """
    kept = [row for row, item in zip(rows, items, strict=True) if not item.overlapping]
    return ItemOverlap(
        training=tuple(map(str, training)),
        grams=sum(item.grams for item in items),
        overlapping_grams=sum(item.overlapping for item in items),
        items=len(items),
        overlapping_items=len(items) - len(kept),
        metrics_without=tuple(task.metrics(kept)) if kept else (),
    )
