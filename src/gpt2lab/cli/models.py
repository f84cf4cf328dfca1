"""Verbs that take a model, or make one of files from elsewhere."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from gpt2lab.base.progress import say
from gpt2lab.cli.output import next_command, print_json

EXIT_NOT_VERIFIED = 1


def import_verb() -> Callable[..., None]:
    import tyro

    from gpt2lab.checkpoints.hub import as_path
    from gpt2lab.checkpoints.importing import import_model
    from gpt2lab.checkpoints.weights import FloatType

    def command(
        source: tyro.conf.Positional[str],
        out: Path,
        revision: str | None = None,
        tokenizer: str | None = None,
        dtype: FloatType | None = None,
        keep_padding: bool = False,
        json: bool = False,
    ) -> None:
        """Make a model folder of a GPT-2 from elsewhere: the hub, Hugging Face, TensorFlow, nanoGPT, llm.c, GGUF.

        Args:
            source: a name on the hub (gpt2, gpt2-xl, OWNER/NAME), a folder, or a file (.pt .bin .gguf .index)
            out: the model folder
            revision: branch, tag or commit on the hub; gpt2 and its sizes are pinned to the published commit
            tokenizer: gpt2, a folder, a tokenizer.json or a .tiktoken file, instead of the source's own
            dtype: type of the weights; the source's unless given (quantized ones become float32)
            keep_padding: keep the rows of the vocabulary that stand for no token
            json: print what was made as JSON
        """
        made = import_model(source, out, revision=revision, tokenizer=tokenizer, dtype=dtype, keep_padding=keep_padding)
        if json:
            return print_json(made)
        for note in made.notes:
            say(note)
        say(f"{out}: a model folder of {made.parameters:,} parameters, from {made.format}.")
        say(next_command(shlex.join(["gpt2lab", "generate", as_path(out), "Once upon a time"])))
        return None

    return command


def export_verb() -> Callable[..., None]:
    import tyro

    from gpt2lab.checkpoints.exporting import ExportFormat, ExportType, export_model

    def command(
        model: tyro.conf.Positional[str],
        to: ExportFormat,
        out: Path,
        dtype: ExportType | None = None,
        json: bool = False,
    ) -> None:
        """Write a model for another tool: Hugging Face, llama.cpp (gguf), CTranslate2, ONNX, llm.c.

        Args:
            model: a model folder, a file of another format, or a name on the hub (gpt2, OWNER/NAME)
            to: hf (a folder for transformers), gguf (a file), ctranslate2, onnx, llm.c (folders)
            out: the file or folder
            dtype: type of the weights; the model's own unless given, if the format has it
            json: print what was made as JSON
        """
        made = export_model(model, out, to, dtype)
        if json:
            return print_json(made)
        for note in made.notes:
            say(note)
        say(f"{out}: {made.parameters:,} parameters as {made.dtype}, {made.bytes / 1e6:,.1f} MB.")
        say(next_command(made.hint))
        return None

    return command


def inspect_verb() -> Callable[..., None]:
    import tyro

    from gpt2lab.checkpoints.inspection import inspect_model, inspection_text
    from gpt2lab.checkpoints.opening import open_model

    def command(
        model: tyro.conf.Positional[str],
        revision: str | None = None,
        every_tensor: bool = False,
        json: bool = False,
    ) -> None:
        """Look into a model: shapes, counts, types, norms, tokenizer, where it comes from, suspicious tensors.

        Args:
            model: a model folder, a file of another format, or a name on the hub (gpt2, OWNER/NAME)
            revision: branch, tag or commit on the hub
            every_tensor: a row for each tensor, not for each kind
            json: print everything as JSON
        """
        found = inspect_model(open_model(model, revision))
        return print_json(found) if json else print(inspection_text(found, every_tensor=every_tensor))

    return command


def verify_verb() -> Callable[..., None]:
    import tyro

    from gpt2lab.evaluate.verification import verification_text, verify_model

    def command(model: tyro.conf.Positional[str], oracle: Path, json: bool = False) -> None:
        """Compare a model with recorded outputs of the real GPT-2; exits with 1 where it is another model.

        Args:
            model: a model folder, a file of another format, or a name on the hub (gpt2, OWNER/NAME)
            oracle: recorded logits (.jsonl, .jsonl.gz) or GLTR's recorded ranks (.json), or a folder of them
            json: print the differences as JSON
        """
        from gpt2lab.generate.language_model import LanguageModel

        found = verify_model(LanguageModel.load(model), oracle)
        print_json(found) if json else print(verification_text(found))
        if not found.verified:
            sys.exit(EXIT_NOT_VERIFIED)

    return command
