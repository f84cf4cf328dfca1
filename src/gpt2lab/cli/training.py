"""Verbs that train."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from gpt2lab.base.progress import say
from gpt2lab.cli.output import command_line, next_command, print_json


def train_verb(recipe_name: str, vocab_size: int | None = None) -> Callable[..., None]:
    import tyro

    from gpt2lab.train.recipe import Recipe
    from gpt2lab.train.recipes import find_recipe

    def command(
        tokens: tyro.conf.Positional[tuple[Path, ...]],
        out: Path,
        recipe: str = "modern:nano",  # noqa: ARG001 - read beforehand, by verb_command
        options: Annotated[Recipe, tyro.conf.arg(name="")] = find_recipe(recipe_name, vocab_size),  # noqa: B008
        allow_change: bool = False,
        json: bool = False,
    ) -> None:
        """Train a GPT-2 on token shards by a recipe; goes on where it stopped. Single settings override the recipe's.

        Args:
            tokens: folders that `tokenize` made; with several, --data.weights tells each one's share
            out: the run folder: recipe, metrics, checkpoints, report, and at the end model/
            recipe: NAME:SIZE (modern, paper, laptop, connor; 117M, 345M, 762M, 1542M, PrettyBig, nano, micro), the
                file.json of a run, or connor:file.json, one of the replication's
            allow_change: go on with a run though the recipe has changed, where the saved state fits it
            json: print the run's summary as JSON
        """
        from gpt2lab.train.loop import train
        from gpt2lab.train.watching.report import write_run_report

        summary = train(options, tokens, out, allow_change=allow_change, command=command_line())
        write_run_report(out, command_line())
        if json:
            return print_json(summary)
        loss = f"validation loss {summary.val_loss_last:.3f} after {summary.tokens:,} tokens"
        if summary.model_step not in (None, summary.steps):
            loss = f"validation loss {summary.model_loss:.3f} at step {summary.model_step:,}, the best"
        say(f"{summary.model}: {loss}; see {out}/report.html")
        say(next_command(f"gpt2lab generate {summary.model} 'Once upon a time'"))
        return None

    return command


def demo_verb() -> Callable[..., None]:
    import tyro

    from gpt2lab.pipelines.demo import DemoOptions, demo

    def command(
        options: Annotated[DemoOptions, tyro.conf.arg(name="")] = DemoOptions(),  # noqa: B008 - frozen
        json: bool = False,
    ) -> None:
        """Go the whole way once, on the pages of Python's own documentation server: no network, about ten minutes.

        Args:
            json: print report.json
        """
        values = demo(options, command_line())
        if json:
            return print_json(values)
        say(
            f"{options.out}: {values['pages_fetched']:,} pages, validation loss {values['val_loss_last']:.2f}"
            f" (unigram model {values['unigram_val_loss']:.2f}); open {options.out}/report.html"
        )
        say(next_command(f"gpt2lab generate {options.out}/model 'This module'"))
        return None

    return command
