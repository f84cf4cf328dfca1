"""The verb that chooses a recipe's settings."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from gpt2lab.base.errors import UserError
from gpt2lab.base.progress import say
from gpt2lab.cli.output import command_line, next_command, print_json


def sweep_verb(recipe_name: str, vocab_size: int | None = None) -> Callable[..., None]:
    import tyro

    from gpt2lab.pipelines.sweep_trials import Search
    from gpt2lab.train.recipe import Recipe
    from gpt2lab.train.recipes import find_recipe

    def command(
        tokens: tyro.conf.Positional[tuple[Path, ...]],
        out: Path,
        over: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
        search: Search = "grid",
        trials: int | None = None,
        tune_learning_rate: bool = False,
        recipe: str = "modern:nano",  # noqa: ARG001 - read beforehand, by verb_command
        options: Annotated[Recipe, tyro.conf.arg(name="")] = find_recipe(recipe_name, vocab_size),  # noqa: B008
        json: bool = False,
    ) -> None:
        """Train a recipe once for each setting of some of its fields, and rank them by validation loss.

        Args:
            tokens: folders that `tokenize` made
            out: folder of the sweep: sweep.json, report.html and a run folder for each trial
            over: FIELD=VALUES, once for each field, named as in recipe.json: values with commas between,
                or a range, as in optimizer.learning_rate=1e-4..1e-2: in equal factors where it spans a
                decade or more, else in equal steps; :log or :linear behind it says otherwise
            search: grid: every combination; geometric: that, all ranges in equal factors; random: draws
            trials: most trials of a grid (else 5 points of a range); how many to draw (else 10)
            tune_learning_rate: the paper's way: tokens with 5 % held out, validation on all of it, the schedule of
                the recipe paper; rates from a quarter of the recipe's to four times it, or those of --over
            recipe: NAME:SIZE (modern, paper, laptop, connor; 117M, 345M, 762M, 1542M, PrettyBig, nano, micro), a run's
                file.json, or connor:file.json, one of the replication's
            json: print sweep.json
        """
        from gpt2lab.pipelines.sweep import sweep, tuned_as_in_the_paper
        from gpt2lab.pipelines.sweep_results import ranked_rows

        asked, fields = tuned_as_in_the_paper(options, tokens, over) if tune_learning_rate else (options, over)
        found = sweep(asked, tokens, out, fields, search=search, trials=trials, command=command_line())
        if not found.ranking:
            reason = found.others[0].reason
            raise UserError(f"{out}: none of its {len(found.trials)} trials finished; the first: {reason}")
        if json:
            return print_json(found.to_json())
        _print_table(*ranked_rows(found))
        best = found.ranking[0]
        say(f"{out}: best is {best.folder}, validation loss {best.val_loss:.4f}; see {out}/report.html")
        say(next_command(found.next_command()))
        for note in found.edges():
            say(note)
        return None

    return command


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False)
    # A file or a pipe has no width to keep to.
    console.print(table, width=None if console.is_terminal else 1000, soft_wrap=True)
