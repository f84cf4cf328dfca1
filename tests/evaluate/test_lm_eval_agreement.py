"""lm-evaluation-harness (in an environment of its own) and our tasks in its protocol agree, item by item."""

import gzip
import importlib
import json
import os
import subprocess
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet
from gpt2lab.evaluate.scoring import score
from gpt2lab.evaluate.tasks.wikitext import articles
from gpt2lab.model.config import GPT2Config
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.tokens.bpe import gpt2_tokenizer

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-lm-eval" / "bin" / "python"
CONTEXT = 256
KNOWN = 8
ITEMS = {
    "lambada_openai": 40,
    "hellaswag": 30,
    "piqa": 30,
    "arc_easy": 30,
    "arc_challenge": 20,
    "winogrande": 30,
    "boolq": 8,
    "wsc273": 273,
    "wikitext": 2,
}
MODULES = ("lambada", "hellaswag", "piqa", "arc", "winogrande", "boolq", "winograd", "wikitext")

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not PYTHON.parents[1].joinpath(".ready").exists(), reason="no lm-eval here; make test-interop builds it"
    ),
]


def lm_eval_tasks():
    found = {}
    for module in MODULES:
        found |= importlib.import_module(f"gpt2lab.evaluate.tasks.{module}").LM_EVAL
    return found


def hub_rows(data, sets):
    """The first rows of each set as the Hugging Face hub has them."""
    with gzip.open(data("hellaswag/hellaswag_val.jsonl.gz"), "rt") as lines:
        yield "hellaswag", [json.loads(line) for line in islice(lines, ITEMS["hellaswag"])]
    labels = data("piqa/valid-labels.lst").read_text().split()
    lines = data("piqa/valid.jsonl").read_text().splitlines()[: ITEMS["piqa"]]
    yield "piqa", [json.loads(line) | {"label": int(label)} for line, label in zip(lines, labels, strict=False)]
    lines = data("lambada/lambada_test.jsonl").read_text().splitlines()[: ITEMS["lambada_openai"]]
    yield "lambada_openai", [json.loads(line) for line in lines]
    for name in ("arc_easy", "arc_challenge"):
        yield (
            name,
            [
                {
                    "id": str(number),
                    "question": item.question,
                    "choices": {"text": list(item.choices), "label": list("ABCDE"[: len(item.choices)])},
                    "answerKey": "ABCDE"[item.answer],
                }
                for number, item in enumerate(sets[name].items)
            ],
        )
    yield (
        "winogrande",
        [
            {
                "sentence": f"{item.before}_{item.after}",
                "option1": item.options[0],
                "option2": item.options[1],
                "answer": str(item.answer + 1),
            }
            for item in sets["winogrande"].items
        ],
    )
    yield (
        "boolq",
        [
            {"passage": item.passage, "question": item.question, "idx": number, "label": int(item.answer)}
            for number, item in enumerate(sets["boolq"].items)
        ],
    )
    yield "wsc273", [schema_row(item) for item in sets["wsc273"].items]
    yield "wikitext", [{"page": article} for article in articles(sets["wikitext"].items[0])]


def schema_row(item):
    """As the hub's `winograd_wsc` joins a schema's parts: by spaces, whatever follows the pronoun."""
    before, pronoun, after = (" ".join(part.split()) for part in (item.before, item.pronoun, item.after))
    return {
        "text": " ".join([before, pronoun, after]).strip(),
        "pronoun": pronoun,
        "pronoun_loc": len(before) + 1 if before else 0,
        "quote": "",
        "quote_loc": 0,
        "options": [" ".join(candidate.split()) for candidate in item.candidates],
        "label": item.answer,
        "source": "",
    }


@pytest.fixture(scope="module")
def trained():
    """A small network that has been shown the last words of a few passages, so that it knows some."""
    torch.manual_seed(0)
    path = ROOT.parent / "shared" / "data" / "lambada" / "lambada_test.jsonl"
    if not path.exists():
        pytest.skip(f"shared test data absent: {path}")
    tokenizer = gpt2_tokenizer()
    network = GPT2(GPT2Config(vocab_size=tokenizer.vocab_size, context_length=CONTEXT, n_layer=2, n_head=4, n_embd=64))
    network.initialize(torch.Generator().manual_seed(0))
    lines = path.read_text().splitlines()[:KNOWN]
    rows = [torch.tensor(tokenizer.encode(json.loads(line)["text"])) for line in lines]
    inputs = pad_sequence([row[:-1] for row in rows], batch_first=True)
    # Only the last token is learnt: whole passages would take minutes.
    last = [torch.full_like(row[1:], -1).index_fill(0, torch.tensor([len(row) - 2]), row[-1]) for row in rows]
    targets = pad_sequence(last, batch_first=True, padding_value=-1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(15):
        optimizer.zero_grad()
        network.loss(inputs, targets).backward()
        optimizer.step()
    return network.eval(), tokenizer


@pytest.fixture(scope="module")
def both(trained, tmp_path_factory):
    """Our rows and scores of each task, and lm-eval's."""
    network, tokenizer = trained
    folder = tmp_path_factory.mktemp("lm-eval")

    def data(relative):
        path = ROOT.parent / "shared" / "data" / relative
        if not path.exists():
            pytest.skip(f"shared test data absent: {path}")
        return path

    source = DataSource(data("lambada").parent)
    tasks = lm_eval_tasks()
    tasks["wikitext"] = replace(tasks["wikitext"], stride=CONTEXT)
    sets = {}
    for name, task in tasks.items():
        found = task.read(source)
        items = found.items[: ITEMS[name]]
        if name == "wikitext":
            items = ("".join(sorted(articles(found.items[0]), key=len)[: ITEMS[name]]),)
        sets[name] = EvaluationSet(items, found.files)
    for name, rows in hub_rows(data, sets):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_model_folder(folder / "model", network, tokenizer, {})
    program = Path(__file__).parent / "lm_eval_program.py"
    done = subprocess.run(
        [PYTHON, program, folder / "model", folder],
        capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(folder / "cache"),
            "HF_HOME": str(folder / "home"),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = json.loads((folder / "found.json").read_text())
    ours = {}
    for name, task in tasks.items():
        questions = task.questions(sets[name], tokenizer, CONTEXT)
        scores = iter(score(network, [pair for question in questions for pair in question.pairs]))
        of_items = [list(islice(scores, len(question.pairs))) for question in questions]
        rows = [
            {"item": question.name, **question.facts, **task.row(question, of_item)}
            for question, of_item in zip(questions, of_items, strict=True)
        ]
        ours[name] = (questions, of_items, rows, {metric.name: metric.value for metric in task.metrics(rows)})
    return ours, theirs


@pytest.mark.parametrize("name", ITEMS)
def test_log_likelihoods_agree_request_by_request(both, name):
    ours, theirs = both
    _, of_items, _, _ = ours[name]
    assert len(of_items) == len(theirs["rows"][name])
    for number, (scores, row) in enumerate(zip(of_items, theirs["rows"][name], strict=True), 1):
        totals = [sum(each.total for each in scores)] if name == "wikitext" else [each.total for each in scores]
        assert totals == pytest.approx(row["scores"], rel=1e-4), (name, number, row["requests"])
        if row["greedy"]:
            assert [all(each.best) for each in scores] == row["greedy"], (name, number)


@pytest.mark.parametrize("name", [name for name in ITEMS if name != "wikitext"])
def test_items_are_judged_alike(both, name):
    ours, theirs = both
    _, _, rows, figures = ours[name]
    for metric, key in (("acc", "accuracy"), ("acc_norm", "accuracy_norm")):
        if metric in theirs["rows"][name][0]:
            assert [row[key] for row in rows] == [bool(row[metric]) for row in theirs["rows"][name]]
            assert figures[key] == pytest.approx(theirs["figures"][name][f"{metric},none"], abs=1e-12)


def test_perplexities_agree(both):
    ours, theirs = both
    assert ours["lambada_openai"][3]["perplexity"] == pytest.approx(
        theirs["figures"]["lambada_openai"]["perplexity,none"], rel=1e-4
    )
    for metric in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        assert ours["wikitext"][3][metric] == pytest.approx(theirs["figures"]["wikitext"][f"{metric},none"], rel=1e-4)


def test_some_words_are_right_and_some_not(both):
    """So that agreement says something."""
    ours, _ = both
    assert 0 < ours["lambada_openai"][3]["accuracy"] < 1
