"""Runs in lm-evaluation-harness's own environment: what its tasks make of a model folder, without network.

`python lm_eval_program.py MODEL FOLDER`: FOLDER has the rows of each task in the columns that it knows from the Hugging
Face hub, FOLDER/NAME.jsonl. The tasks are those that the harness brings; only where their rows come from is changed.
Writes FOLDER/found.json: for each task a list of rows with `requests` (context and continuation), `scores`, `greedy`
and whatever the harness judged the row by.
"""

import json
import sys
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager

model, folder = Path(sys.argv[1]), Path(sys.argv[2])
tasks = Path(lm_eval.__file__).parent / "tasks"
FILES = {
    "lambada_openai": "lambada/lambada_openai.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "piqa": "piqa/piqa.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "winogrande": "winogrande/default.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "wsc273": "wsc273/default.yaml",
    "wikitext": "wikitext/wikitext.yaml",
}
names = [name for name in FILES if (folder / f"{name}.jsonl").exists()]
for name in names:
    lines = [
        f"include: {tasks / FILES[name]}",
        f"task: here_{name}",
        "tag: []",
        "dataset_path: json",
        "dataset_name: null",
        "dataset_kwargs: {data_files: {rows: " + json.dumps(str(folder / f"{name}.jsonl")) + "}}",
        "training_split: null",
        "validation_split: null",
        "test_split: rows",
    ]
    (folder / f"{name}.yaml").write_text("\n".join(lines) + "\n")
found = lm_eval.simple_evaluate(
    model="hf",
    model_args={"pretrained": str(model), "dtype": "float32"},
    tasks=[f"here_{name}" for name in names],
    task_manager=TaskManager(include_path=str(folder)),
    device="cpu",
    batch_size=4,
    bootstrap_iters=0,
)
rows = {}
for name in names:
    rows[name] = []
    for sample in sorted(found["samples"][f"here_{name}"], key=lambda sample: sample["doc_id"]):
        answers = [answer[0] for answer in sample["resps"]]
        rows[name].append(
            {
                "requests": list(sample["arguments"]),
                "scores": [float(a[0] if isinstance(a, (list, tuple)) else a) for a in answers],
                "greedy": [bool(a[1]) for a in answers if isinstance(a, (list, tuple))],
                **{metric: sample[metric] for metric in ("acc", "acc_norm") if metric in sample},
            }
        )
figures = {name: found["results"][f"here_{name}"] for name in names}
(folder / "found.json").write_text(json.dumps({"rows": rows, "figures": figures}, default=str))
