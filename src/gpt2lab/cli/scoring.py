"""The verb that tells how probable a model finds lines, or a speech recognizer's hypotheses."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from gpt2lab.base.errors import BadOption
from gpt2lab.base.progress import say
from gpt2lab.cli.output import print_json

if TYPE_CHECKING:
    from gpt2lab.evaluate.nbest import Rescoring

Format = Literal["jsonl", "tsv"]


def score_verb() -> Callable[..., None]:
    import tyro

    def command(
        model: tyro.conf.Positional[str],
        file: tyro.conf.Positional[str] = "",
        nbest: Path | None = None,
        references: Path | None = None,
        weight: float | None = None,
        length_bonus: float | None = None,
        held_out_share: float = 0.3,
        out: Path | None = None,
        format: Format = "jsonl",  # noqa: A002 - an option's name
        json: bool = False,
    ) -> None:
        """Tell how probable a model finds each line of a text, or re-score a speech recognizer's n-best lists.

        Args:
            model: a model folder, a file of another format, or a name on the hub (gpt2, OWNER/NAME)
            file: a text file, scored line by line, each after <|endoftext|>; - reads standard input
            nbest: n-best lists instead: JSON lines with id, hypotheses (text, score) and reference, or a folder of
                ESPnet's (1best_recog/ ...) or Kaldi's (words_text, acwt); the best hypotheses come out
            references: what was said, lines of an id and the words, where the lists don't hold it
            weight: of the model's log-likelihood beside the recognizer's score; tuned on some of the utterances unless
                given
            length_bonus: added for each word, with --weight
            held_out_share: share of the utterances to tune on; the word error rate is that of the others
            out: file for the lines; standard output unless given
            format: jsonl, or tsv with a line of names first
            json: print what re-scoring did as JSON; the best hypotheses then go to --out alone
        """
        from gpt2lab.generate.language_model import LanguageModel

        if bool(file) == (nbest is not None):
            raise BadOption("give a text file (or - for standard input), or --nbest with a file or folder of lists.")
        if nbest is not None:
            from gpt2lab.datasets.nbest_lists import read_nbest_lists
            from gpt2lab.evaluate.nbest import rescore

            lists = read_nbest_lists(nbest, references)
            found = rescore(LanguageModel.load(model), lists, weight, length_bonus, held_out_share)
            if out is not None or not json:
                _write(map(asdict, found.best), out, format)
            if json:
                return print_json(replace(found, best=()))
            return _tell(found)
        from gpt2lab.evaluate.line_scores import score_file

        alone = {"--references": references, "--weight": weight, "--length-bonus": length_bonus, "--json": json or None}
        if unused := [name for name, value in alone.items() if value is not None]:
            raise BadOption(f"{' '.join(unused)}: only with --nbest.")
        scores = score_file(LanguageModel.load(model), None if file == "-" else Path(file))
        return _write(map(asdict, scores), out, format)

    return command


def _tell(found: "Rescoring") -> None:
    how = f"tuned on {found.tuned_on:,} utterances" if found.tuned_on else "as given"
    say(f"weight {found.weight:.4g}, length bonus {found.length_bonus:.4g}, {how}.")
    if (errors := found.word_errors) is None:
        return
    say(f"word error rate of {errors.before.items:,} other utterances:" if found.tuned_on else "word error rate:")
    for name, rate in (
        ("before", errors.before),
        ("after", errors.after),
        ("change", errors.change),
        ("oracle", errors.oracle),
    ):
        interval = "" if rate.low is None else f"  ({rate.low:.2%} to {rate.high:.2%})"
        say(f"  {name:<7} {rate.value:7.2%}{interval}{f'  p = {errors.p_value:.4f}' if name == 'change' else ''}")


def _write(rows: Iterable[dict[str, Any]], out: Path | None, form: Format) -> None:
    with _output(out) as handle:
        for number, row in enumerate(rows):
            if form == "jsonl":
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
                continue
            if not number:
                handle.write("\t".join(row) + "\n")
            values = ("" if value is None else str(value) for value in row.values())
            handle.write("\t".join(value.replace("\t", " ").replace("\n", " ") for value in values) + "\n")


@contextmanager
def _output(out: Path | None) -> Iterator[IO[str]]:
    from gpt2lab.base.files import whole_file

    if out is None:
        yield sys.stdout
    else:
        with whole_file(out, "w") as handle:
            yield handle
