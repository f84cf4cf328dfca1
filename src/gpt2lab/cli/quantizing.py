"""The verb that makes a model's weights smaller."""

import shlex
from collections.abc import Callable
from pathlib import Path

from gpt2lab.base.errors import BadOption
from gpt2lab.base.progress import say
from gpt2lab.cli.output import command_line, next_command, print_json


def quantize_verb() -> Callable[..., None]:
    import tyro

    from gpt2lab.checkpoints.hub import as_path
    from gpt2lab.checkpoints.quantizing import WeightType

    def command(
        model: tyro.conf.Positional[str],
        out: Path,
        weights: WeightType = "int8",
        text: tuple[Path, ...] = (),
        data: Path | None = None,
        fetch: bool = False,
        allow_changed_data: bool = False,
        limit: int | None = None,
        revision: str | None = None,
        json: bool = False,
    ) -> None:
        """Make a model folder with smaller weights, and tell what that costs on texts.

        Args:
            model: a model folder, a file of another format, or a name on the hub (gpt2, OWNER/NAME)
            out: folder for the new model; replaced where it is one that this verb made
            weights: int8 (a scale an output), int4 (a scale for 32 inputs of an output), bfloat16
            text: text files of your own: perplexity before and after
            data: a folder with WikiText-2, to measure on its test set
            fetch: measure on WikiText-2, got from its makers where it is not there
            allow_changed_data: take a WikiText-2 whose hash is not the published one
            limit: only the first so many windows of each text
            revision: branch, tag or commit on the hub
            json: print what was made as JSON
        """
        from gpt2lab.datasets.evaluation_sets import DataSource
        from gpt2lab.pipelines.quantize import quality_text, quantize

        wikitext2 = DataSource(data, allow_changed_data, fetch) if data is not None or fetch else None
        if limit is not None and not text and wikitext2 is None:
            raise BadOption("--limit: only with texts (--text, --data, --fetch).")
        found = quantize(
            model,
            out,
            weights,
            revision=revision,
            texts=text,
            wikitext2=wikitext2,
            limit=limit,
            command=command_line(),
        )
        if json:
            return print_json(found)
        made = found.made
        for note in made.notes:
            say(note)
        print(quality_text(found))
        say(
            f"{out}: {made.parameters:,} parameters as {weights}, {made.bytes / 1e6:,.1f} MB,"
            f" {made.float32_bytes / made.bytes:.2f} times less than the {made.float32_bytes / 1e6:,.1f} MB of float32."
        )
        say(next_command(shlex.join(["gpt2lab", "generate", as_path(out), "Once upon a time"])))
        return None

    return tyro.conf.configure(tyro.conf.UseAppendAction)(command)
