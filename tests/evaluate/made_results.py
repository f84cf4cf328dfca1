"""Results of evaluations that nobody ran, for tests of what is made of results."""

import json
from dataclasses import replace

from gpt2lab.datasets.evaluation_sets import FoundFile
from gpt2lab.evaluate.results import ModelIdentity, SuiteResult, TaskIdentity, TaskResult, write_results
from gpt2lab.evaluate.statistics import accuracy, bits_per, perplexity

MODEL = ModelIdentity("models/small", 803_840, 32, "a" * 64, "b" * 64)


def made_task(label, rows, options=None, files=(), model=MODEL, version=1):
    """A task whose metrics are those of its rows: accuracies of their booleans, a perplexity of nats and units."""
    shares = [name for name, value in rows[0].items() if isinstance(value, bool)]
    metrics = [accuracy(name, [row[name] for row in rows]) for name in shares]
    if "nats" in rows[0]:
        rate = {"enwik8": "bits_per_byte", "text8": "bits_per_character"}.get(label, "perplexity")
        figure = perplexity if rate == "perplexity" else bits_per
        metrics.append(figure(rate, [row["nats"] for row in rows], [row["units"] for row in rows]))
    identity = TaskIdentity(label, version, options or {}, tuple(files), model, "c" * 64)
    facts = {"units": sum(row.get("units", 0) for row in rows)}
    return TaskResult(
        label, label.title(), f"How {label} is done.", identity, tuple(metrics), len(rows), facts, 0, 9, 2.5
    )


def made_suite(*tasks, model=MODEL):
    return SuiteResult(
        "table3",
        "paper",
        model,
        tuple(replace(task, identity=replace(task.identity, model=model)) for task in tasks),
        "gpt2lab evaluate models/small --suite table3",
        {"gpt2lab": "0.1.0", "torch": "2.13.0"},
        {"processor": "a processor", "cores": 2, "memory_bytes": 8 << 30, "system": "Linux", "python": "3.11"},
    )


def write_run(folder, rows_of, options=None, files=(), model=MODEL, version=1):
    """A folder of results with the rows of some labels."""
    (folder / "items").mkdir(parents=True)
    tasks = [made_task(label, rows, options, files, model, version) for label, rows in rows_of.items()]
    for label, rows in rows_of.items():
        (folder / "items" / f"{label}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_results(folder, made_suite(*tasks, model=model))
    return folder


def found_file(sha256="d" * 64, official=True):
    return FoundFile("test.txt", "data/test.txt", sha256, official)
