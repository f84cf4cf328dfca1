"""The command line: each verb parses, calls one function, prints. What a verb needs is imported when it is called."""

import errno
import gc
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2lab.base.errors import UserError
from gpt2lab.base.progress import say
from gpt2lab.cli.comparing import compare_verb
from gpt2lab.cli.evaluating import evaluate_verb
from gpt2lab.cli.finetuning import finetune_verb
from gpt2lab.cli.generating import generate_verb
from gpt2lab.cli.models import export_verb, import_verb, inspect_verb, verify_verb
from gpt2lab.cli.quantizing import quantize_verb
from gpt2lab.cli.scoring import score_verb
from gpt2lab.cli.sweeping import sweep_verb
from gpt2lab.cli.tokens import (
    tokenize_verb,
    tokens_compare_verb,
    tokens_export_verb,
    tokens_import_verb,
    tokens_inspect_verb,
    tokens_train_verb,
)
from gpt2lab.cli.training import demo_verb, train_verb
from gpt2lab.cli.webtext import build_verb, fetch_verb, links_verb, overlap_verb, why_verb

if TYPE_CHECKING:
    from gpt2lab.generate.prompts import Task

EXIT_USER_ERROR, EXIT_INTERRUPTED, EXIT_PIPE_CLOSED = 2, 130, 141


@dataclass(frozen=True)
class Verb:
    """One verb: what it does, and a function that imports what it needs and returns what tyro is to call."""

    summary: str
    command: Callable[[], Callable[..., None]]


VERBS = {
    "links": Verb("Reddit dumps, URL lists -> links worth fetching, each once", links_verb),
    "fetch": Verb("links -> pages: fetch them politely into WARC files", fetch_verb),
    "build": Verb("pages, texts -> documents: extract, filter, remove duplicates", build_verb),
    "why": Verb("a build + an id or URL -> why that page is in or out", why_verb),
    "overlap": Verb("documents + evaluation sets -> how much of the sets the documents hold", overlap_verb),
    "tokenize": Verb("documents -> token shards, with GPT-2's tokenizer or your own", tokenize_verb),
    "tokens train": Verb("documents -> a byte-level BPE of your own", tokens_train_verb),
    "tokens inspect": Verb("token shards -> are they whole, what do they hold, what stands where", tokens_inspect_verb),
    "tokens compare": Verb("tokenizers + texts -> bytes a token of each", tokens_compare_verb),
    "tokens export": Verb("token shards -> those of nanoGPT, llm.c, Hugging Face", tokens_export_verb),
    "tokens import": Verb("token shards of nanoGPT, llm.c, Hugging Face -> ours", tokens_import_verb),
    "train": Verb("token shards + a recipe -> a run with a model", lambda: train_verb("modern:nano")),
    "sweep": Verb("token shards + a recipe -> which settings train best", lambda: sweep_verb("modern:nano")),
    "finetune": Verb("a model + your own text -> a model in its style, full or LoRA", finetune_verb),
    "import": Verb("a GPT-2 from elsewhere, by name or file -> a model folder", import_verb),
    "export": Verb("a model -> Hugging Face, GGUF, CTranslate2, ONNX, llm.c", export_verb),
    "quantize": Verb("a model -> the same with smaller weights, and what that costs", quantize_verb),
    "inspect": Verb("a model -> its shapes, norms, origin, suspicious tensors", inspect_verb),
    "verify": Verb("a model + recorded outputs of the real GPT-2 -> is it that model", verify_verb),
    "evaluate": Verb("a model + the paper's tasks, or your own -> scores with errors, a report", evaluate_verb),
    "compare": Verb("two evaluations -> which model is better, item by item", compare_verb),
    "score": Verb("a model + lines or n-best lists -> log-likelihoods, best hypotheses", score_verb),
    "generate": Verb(
        "a model + prompts -> text: streamed, to files, for tasks, in conversation", lambda: generate_verb()
    ),
    "demo": Verb("the whole way once, on pages every Python can serve", demo_verb),
}

HELP = """gpt2lab: GPT-2, whole. From web pages to a trained, measured, talking model.

usage: gpt2lab VERB [options]        gpt2lab VERB --help tells a verb's options

{verbs}

Start with: gpt2lab demo
"""


def help_text() -> str:
    """What `gpt2lab --help` prints."""
    return HELP.format(verbs=_listed(VERBS))


def _listed(names: Iterable[str]) -> str:
    width = max(map(len, VERBS))
    return "\n".join(f"  {name:<{width}}  {VERBS[name].summary}" for name in names)


def _verb_and_options(arguments: list[str]) -> tuple[str, list[str]]:
    """The verb that a command line begins with (one of `tokens ...` is two words), and the rest of it."""
    for words in (2, 1):
        if (name := " ".join(arguments[:words])) in VERBS:
            return name, arguments[words:]
    family = [name for name in VERBS if name.startswith(f"{arguments[0]} ")]
    raise UserError(f"no verb {' '.join(arguments[: 2 if family else 1])!r}; there are {', '.join(family or VERBS)}.")


def verb_command(name: str, arguments: list[str]) -> Callable[..., None]:
    """The function of a verb, its defaults settled: those of the recipe (fit to the tokens) or task that is named."""
    if name == "generate":
        return generate_verb(_named_task(arguments))
    verbs = {"train": train_verb, "sweep": sweep_verb}
    if name not in verbs:
        return VERBS[name].command()
    import argparse

    from gpt2lab.tokens.shards import read_tokens_info

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--recipe", default="modern:nano")
    known, others = first.parse_known_args(arguments)
    tokens = next((Path(word) for word in others if Path(word, "tokens.json").exists()), None)
    return verbs[name](known.recipe, read_tokens_info(tokens).vocab_size if tokens else None)


def _named_task(arguments: list[str]) -> "Task | None":
    from gpt2lab.generate.prompts import TASKS

    values = [after for word, after in pairwise([*arguments, ""]) if word == "--task"]
    values += [word.removeprefix("--task=") for word in arguments if word.startswith("--task=")]
    return next((task for task in TASKS if task in values), None)


def _run(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return print(help_text(), end="")
    if arguments[0] == "--version":
        from gpt2lab import __version__

        return print(f"gpt2lab {__version__}")
    family = [name for name in VERBS if name.startswith(f"{arguments[0]} ")]
    if family and arguments[1:] in ([], ["-h"], ["--help"]):
        return print(f"usage: gpt2lab {arguments[0]} VERB [options]\n\n{_listed(family)}")
    name, options = _verb_and_options(arguments)
    # Collecting garbage among half-imported modules takes a tenth of the time to a first token; `generate` turns
    # it on again once its model is open.
    if name == "generate":
        gc.disable()
    import tyro

    tyro.cli(verb_command(name, options), prog=f"gpt2lab {name}", args=options)
    return None


def _end_output() -> None:
    """Write what is left of standard output; where that can't be, nowhere: Python would try again at its exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def main() -> None:
    """Run the command line; exits with 2 on bad input or options."""
    try:
        _run(sys.argv[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except UserError as error:
        say(f"error: {error}")
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt as interrupt:
        say(str(interrupt) or "interrupted.")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        _end_output()
        sys.stderr.close()
        sys.exit(EXIT_PIPE_CLOSED)
    except MemoryError as error:
        say(f"error: not enough memory ({error or 'none is left'}); free some, or ask for less.")
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:
        if error.filename is not None:
            # Of a file where a folder is needed the system says only that it exists.
            reason = "a file lies in the way" if isinstance(error, FileExistsError) else error.strerror
            say(f"error: {error.filename}: {reason}.")
        elif error.errno == errno.ENOSPC:
            _end_output()
            say(f"error: the disk that is written to is full ({error.strerror}); free some space, or write elsewhere.")
        else:
            raise
        sys.exit(EXIT_USER_ERROR)


if __name__ == "__main__":
    main()
