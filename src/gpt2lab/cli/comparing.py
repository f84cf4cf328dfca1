"""The verb that compares two evaluations."""

from collections.abc import Callable
from pathlib import Path

from gpt2lab.base.errors import BadOption
from gpt2lab.base.progress import say
from gpt2lab.cli.output import command_line, print_json


def compare_verb() -> Callable[..., None]:
    import tyro

    def command(
        run_a: tyro.conf.Positional[Path],
        run_b: tyro.conf.Positional[Path],
        out: Path | None = None,
        json: bool = False,
    ) -> None:
        """Compare two evaluations item by item: which model is better, and by more than chance.

        Args:
            run_a: folder of results that `evaluate --out` made
            run_b: the other one; it must be of the same questions: tasks, versions, options and data
            out: folder for report.html
            json: print the comparison as JSON
        """
        from gpt2lab.evaluate.comparison import compare_runs, comparison_text

        if out is not None and (out / "results.json").exists():
            raise BadOption(f"--out {out}: holds an evaluation, whose report.html would be lost; name another folder.")
        found = compare_runs(run_a, run_b)
        if out is not None:
            from gpt2lab.pipelines.comparison_report import write_comparison_report

            write_comparison_report(out, found, command_line())
        print_json(found) if json else print(comparison_text(found))
        if out is not None:
            say(f"{out}: see {out}/report.html")

    return command
