"""The verb that goes on training a model with the user's own text."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from gpt2lab.base.progress import say
from gpt2lab.cli.output import command_line, next_command, print_json


def finetune_verb() -> Callable[..., None]:
    import tyro

    from gpt2lab.pipelines.finetune import FinetuneOptions, finetune, warning_of
    from gpt2lab.pipelines.finetune_report import write_finetune_report

    def command(
        model: tyro.conf.Positional[str],
        text: tyro.conf.Positional[tuple[Path, ...]],
        out: Path,
        options: Annotated[FinetuneOptions, tyro.conf.arg(name="")] = FinetuneOptions(),  # noqa: B008 - frozen
        allow_change: bool = False,
        json: bool = False,
    ) -> None:
        """Go on training a model with a text of your own; goes on where it stopped.

        Args:
            model: a model folder, a file of another format, or a name on the hub (gpt2, OWNER/NAME)
            text: .txt, .jsonl (text, or prompt and completion), .csv, .parquet, or folders of them
            out: the run folder: metrics, checkpoints, report, model/, and with --lora adapter/
            allow_change: go on with a run though options have changed, where the saved state fits them
            json: print what came of it as JSON
        """
        found = finetune(model, text, out, options, allow_change=allow_change)
        write_finetune_report(out, found, model, command_line())
        if json:
            return print_json(found)
        for sample in found.samples[:2]:
            say(f"after “{sample.prompt}”:" if sample.prompt else "unprompted:")
            say(f"  before  {_line(sample.before)}")
            say(f"  now     {_line(sample.after)}")
        if warning := warning_of(found.copied):
            say(warning)
        say(
            f"{found.model}: perplexity on held-out text {found.perplexity_before:,.1f} before,"
            f" {found.perplexity_after:,.1f} after (step {found.model_step:,} of {found.steps:,}); see"
            f" {out}/report.html"
        )
        prompt = next((sample.prompt for sample in found.samples if sample.prompt), "Once upon a time")
        say(next_command(shlex.join(["gpt2lab", "generate", found.model, prompt])))
        return None

    return tyro.conf.configure(tyro.conf.UseAppendAction)(command)


def _line(text: str, most: int = 100) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= most else joined[:most] + " …"
