"""The command line: each verb parses, calls one function, prints. What a verb needs is imported when it is called."""

import json
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any

from gpt2lab.base.errors import UserError
from gpt2lab.base.progress import say

EXIT_USER_ERROR, EXIT_INTERRUPTED, EXIT_PIPE_CLOSED = 2, 130, 141


@dataclass(frozen=True)
class Verb:
    """One verb: what it does, and a function that imports what it needs and returns what tyro is to call."""

    summary: str
    command: Callable[[], Callable[..., None]]


def _print_json(value: Any) -> None:
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    print(json.dumps(plain, indent=2, allow_nan=False))


def _told(command: str) -> str:
    return f"next: {command}"


def _links() -> Callable[..., None]:
    import tyro

    from gpt2lab.webtext.links.links import LinksOptions, links
    from gpt2lab.webtext.links.report import write_links_report

    def command(
        inputs: tyro.conf.Positional[tuple[Path, ...]],
        out: Path,
        options: Annotated[LinksOptions, tyro.conf.arg(name="")] = LinksOptions(),  # noqa: B008 - frozen
        compare: Path | None = None,
        json: bool = False,
    ) -> None:
        """Gather the links of Reddit dumps and lists: each once, with its karma, what holds no text left out.

        Args:
            inputs: files or folders of RS_* dumps (.zst .xz .bz2 .gz .jsonl), URL lists (.txt), links.parquet
            out: folder for links.parquet, domains.parquet and the report
            compare: OpenAI's published domains.txt, to put its 1,000 domains beside ours
            json: print the report as JSON
        """
        report = links(inputs, out, options, compare)
        write_links_report(report, out, _command_line())
        if json:
            return _print_json(report)
        found = " (found finished)" if report.already_finished else ""
        say(f"{out}: {report.links:,} links of {report.lines:,} lines{found}; why the rest went: {out}/report.html")
        say(_told(f"gpt2lab fetch {out}/links.parquet --out pages/"))
        return None

    return command


def _fetch() -> Callable[..., None]:
    import tyro

    from gpt2lab.webtext.crawl.fetch import FetchOptions, fetch

    def command(
        links: tyro.conf.Positional[Path],
        out: Path,
        options: Annotated[FetchOptions, tyro.conf.arg(name="")] = FetchOptions(),  # noqa: B008 - frozen
        json: bool = False,
    ) -> None:
        """Fetch the pages of a list of links into WARC files, politely; goes on where it stopped.

        Args:
            links: a .txt (one URL a line), .jsonl or .parquet (a column url)
            out: folder for pages-*.warc.gz and fetch.jsonl
            json: print the summary as JSON
        """
        summary = fetch(links, out, options)
        if json:
            return _print_json(summary)
        failed = f", {sum(summary.errors.values()):,} failed ({summary.errors})" if summary.errors else ""
        say(f"{out}: {summary.pages:,} pages, {summary.bytes / 1e6:,.1f} MB in {summary.seconds:,.1f} s{failed}.")
        say(_told(f"gpt2lab build {out} --out data/"))
        return None

    return command


def _build() -> Callable[..., None]:
    import tyro

    from gpt2lab.webtext.build import BuildOptions, build
    from gpt2lab.webtext.build_report import write_build_report

    def command(
        inputs: tyro.conf.Positional[tuple[Path, ...]],
        out: Path,
        options: Annotated[BuildOptions, tyro.conf.arg(name="")] = BuildOptions(),  # noqa: B008 - frozen
        json: bool = False,
    ) -> None:
        """Make clean documents of pages and texts: extract, filter, remove duplicates, keep the reasons.

        Args:
            inputs: files or folders of .txt .md .html .htm .jsonl (.gz .zst .xz .bz2 too), .parquet, .warc .wet (.gz)
            out: folder for documents/, removed/ and the report
            json: print the report as JSON
        """
        report = build(inputs, out, options)
        write_build_report(report, out, _command_line())
        if json:
            return _print_json(report)
        found = " (found finished)" if report.already_finished else ""
        say(f"{out}: {report.kept:,} documents of {report.pages:,} pages{found}; why the rest went: {out}/report.html")
        say(_told(f"gpt2lab tokenize {out} --out tokens/"))
        return None

    return command


def _why() -> Callable[..., None]:
    import tyro

    from gpt2lab.webtext.why import told, why

    def command(data: tyro.conf.Positional[Path], page: tyro.conf.Positional[str], json: bool = False) -> None:
        """Tell why a page is in or out: where it was read, what the rules measured, whose duplicate it is.

        Args:
            data: a folder that `build` made
            page: the id of a record, or a URL
            json: print the story as JSON
        """
        stories = why(data, page)
        if json:
            return _print_json([asdict(story) for story in stories])
        print("\n\n".join(told(story) for story in stories))
        return None

    return command


def _overlap() -> Callable[..., None]:
    import tyro

    from gpt2lab.webtext.overlap.overlap import OverlapOptions, measure_overlap
    from gpt2lab.webtext.overlap.report import overlap_table, write_overlap_report

    def command(
        documents: tyro.conf.Positional[tuple[Path, ...]],
        sets: tuple[str, ...],
        out: Path | None = None,
        options: Annotated[OverlapOptions, tyro.conf.arg(name="")] = OverlapOptions(),  # noqa: B008 - frozen
        json: bool = False,
    ) -> None:
        """Measure what share of evaluation sets' 8-grams the documents hold, beside the paper's figures.

        Args:
            documents: folders that `build` made, or files and folders of .parquet .jsonl .txt (.gz .zst .bz2 too)
            sets: evaluation sets, NAME=PATH or PATH each; a name such as ptb or lambada finds the paper's figures
            out: folder for overlap.json and a report with the overlapping passages
            json: print the figures as JSON
        """
        report = measure_overlap(documents, sets, options)
        if out is not None:
            write_overlap_report(report, out, _command_line())
        if json:
            return _print_json(report)
        print(overlap_table(report))
        if out is not None:
            say(f"{out}: the passages that overlap and every item's figures: {out}/report.html, {out}/overlap.json")
        return None

    return command


def _tokenize() -> Callable[..., None]:
    import tyro

    from gpt2lab.tokens.tokenize import tokenize
    from gpt2lab.tokens.tokenizer_files import GPT2
    from gpt2lab.tokens.tokens_report import write_tokens_report

    def command(
        documents: tyro.conf.Positional[Path],
        out: Path,
        tokenizer: str = GPT2,
        vocab_size: int | None = None,
        held_out_share: float = 0.05,
        json: bool = False,
    ) -> None:
        """Turn documents into token shards for training, a share of the documents held out.

        Args:
            documents: a folder that `build` made, or Parquet files with a column text
            out: folder for the shards, tokens.json and the report
            tokenizer: gpt2, or a folder that `tokens train` made, a tokenizer.json or a .tiktoken file
            vocab_size: train a byte-level BPE of this many ids on the documents instead
            held_out_share: share of the documents for validation, chosen by the hash of their text
            json: print tokens.json
        """
        info = tokenize(documents, out, tokenizer=tokenizer, vocab_size=vocab_size, held_out_share=held_out_share)
        write_tokens_report(info, out, _command_line())
        if json:
            return _print_json(info)
        counts = f"{info.total('train'):,} training and {info.total('val'):,} held-out tokens"
        say(f"{out}: {counts} of {info.vocab_size:,} ids; bytes a token by source: {out}/report.html")
        say(_told(f"gpt2lab train {out} --out runs/mine --recipe laptop:nano --minutes 5"))
        return None

    return command


def _tokens_train() -> Callable[..., None]:
    import tyro

    from gpt2lab.tokens.train_bpe import GPT2_PATTERN, train_tokenizer

    def command(
        documents: tyro.conf.Positional[tuple[Path, ...]],
        out: Path,
        vocab_size: int,
        split_pattern: str = GPT2_PATTERN,
        held_out_share: float = 0.05,
        workers: int = 0,
        json: bool = False,
    ) -> None:
        """Train a byte-level BPE on documents of any size, and write it for gpt2lab, transformers and tiktoken.

        Args:
            documents: folders that `build` made, or files and folders of .parquet .jsonl .txt .md (.gz .zst .bz2 too)
            out: folder for vocab.json, merges.txt, tokenizer.json and tokenizer.tiktoken
            vocab_size: how many ids, the 256 bytes and <|endoftext|> among them; fewer where no pair is left twice
            split_pattern: gpt2, or a regular expression that cuts a text into the words that merges stay within
            held_out_share: share of the documents that `tokenize` holds out, and that nothing is learned from
            workers: processes that count words; 0 is one a core
            json: print what was made as JSON
        """
        made = train_tokenizer(documents, out, vocab_size, split_pattern, held_out_share, workers)
        if json:
            return _print_json(made)
        fewer = f", not {vocab_size:,}: no other pair of tokens occurs twice" if made.vocab_size < vocab_size else ""
        say(f"{out}: a byte-level BPE of {made.vocab_size:,} ids{fewer}.")
        say(_told(shlex.join(["gpt2lab", "tokenize", str(documents[0]), "--tokenizer", str(out), "--out", "tokens/"])))
        return None

    return command


def _tokens_inspect() -> Callable[..., None]:
    import tyro

    from gpt2lab.tokens.inspection import inspect_tokens, statistics_table, tokens_at, told_place
    from gpt2lab.tokens.shard_checks import check_shards
    from gpt2lab.tokens.shards import Split, read_tokens_info

    def command(
        tokens: tyro.conf.Positional[Path],
        at: int | None = None,
        split: Split = "train",
        count: int = 64,
        json: bool = False,
    ) -> None:
        """Check token shards against their SHA-256 and count what they hold, or show the tokens at a position.

        Args:
            tokens: a folder that `tokenize` or `tokens import` made
            at: show the tokens from this position of a split on, counted from 0, and whose document they are of
            split: train, or val for the held-out tokens
            count: how many tokens to show
            json: print JSON
        """
        if at is not None:
            place = tokens_at(tokens, split, at, count)
            return _print_json(place) if json else print(told_place(place))
        check_shards(tokens, read_tokens_info(tokens))
        found = inspect_tokens(tokens)
        return _print_json(found) if json else print(statistics_table(found))

    return command


def _tokens_compare() -> Callable[..., None]:
    import tyro

    from gpt2lab.tokens.comparison import compare_tokenizers, comparison_table

    def command(
        tokenizers: tyro.conf.Positional[tuple[str, ...]],
        sets: tuple[str, ...] = (),
        documents: Path | None = None,
        held_out_share: float = 0.05,
        json: bool = False,
    ) -> None:
        """Compare tokenizers: how many bytes of text a token stands for, set by set and source by source.

        Args:
            tokenizers: gpt2, folders that `tokens train` made, tokenizer.json or .tiktoken files
            sets: evaluation sets, NAME=PATH or PATH each
            documents: a folder that `build` made; its held-out documents are compared on, too, by source
            held_out_share: the share that is held out; 0 takes all documents
            json: print the counts as JSON
        """
        found = compare_tokenizers(tokenizers, sets, documents, held_out_share)
        return _print_json([asdict(one) for one in found]) if json else print(comparison_table(tokenizers, found))

    return command


def _tokens_export() -> Callable[..., None]:
    import tyro

    from gpt2lab.tokens.foreign_shards import ForeignFormat, export_shards

    def command(tokens: tyro.conf.Positional[Path], to: ForeignFormat, out: Path, json: bool = False) -> None:
        """Write token shards as nanoGPT's .bin files, llm.c's .bin files with a header, or a Hugging Face data set.

        Args:
            tokens: a folder that `tokenize` or `tokens import` made
            to: nanogpt, llm.c (modded-nanogpt reads it, too), or hf (Parquet for datasets.load_dataset)
            out: folder for the files
            json: print the names of the files as JSON
        """
        files = export_shards(tokens, out, to)
        if json:
            return _print_json([str(file) for file in files])
        say(f"{out}: {', '.join(file.name for file in files[:3])}{', ...' if len(files) > 3 else ''}.")
        hints = {
            "nanogpt": f"copy {out}/*.bin to nanoGPT's data/NAME/ and train with --dataset=NAME",
            "llm.c": f"./train_gpt2cu -i '{out}/*_train_*.bin' -j '{out}/*_val_*.bin'",
            "hf": f"python -c \"import datasets; print(datasets.load_dataset('{out}'))\"",
        }
        say(_told(hints[to]))
        return None

    return command


def _tokens_import() -> Callable[..., None]:
    import tyro

    from gpt2lab.tokens.foreign_shards import import_shards
    from gpt2lab.tokens.tokenizer_files import GPT2, find_tokenizer

    def command(
        inputs: tyro.conf.Positional[tuple[Path, ...]], out: Path, tokenizer: str = GPT2, json: bool = False
    ) -> None:
        """Make token shards of nanoGPT's or llm.c's .bin files, or of a Hugging Face data set with ids.

        Args:
            inputs: .bin files, .parquet or .arrow files with a column input_ids, or folders of them
            out: folder for the shards and tokens.json
            tokenizer: the one that the ids are of: gpt2, a folder, a tokenizer.json or a .tiktoken file
            json: print tokens.json
        """
        info = import_shards(inputs, out, find_tokenizer(tokenizer))
        if json:
            return _print_json(info)
        say(f"{out}: {info.total('train'):,} training and {info.total('val'):,} held-out tokens.")
        say(_told(f"gpt2lab tokens inspect {out}"))
        return None

    return command


def _train(recipe_name: str, vocab_size: int) -> Callable[..., None]:
    import tyro

    from gpt2lab.train.recipe import Recipe, find_recipe

    def command(
        tokens: tyro.conf.Positional[tuple[Path, ...]],
        out: Path,
        recipe: str = "laptop:nano",  # noqa: ARG001 - read beforehand, by verb_command
        options: Annotated[Recipe, tyro.conf.arg(name="")] = find_recipe(recipe_name, vocab_size),  # noqa: B008
        json: bool = False,
    ) -> None:
        """Train a GPT-2 on token shards by a recipe; goes on where it stopped. Single settings override the recipe's.

        Args:
            tokens: folders that `tokenize` made; with several, --data.weights tells each one's share
            out: the run folder: recipe, metrics, checkpoints, report, and at the end model/
            recipe: NAME:SIZE (paper, laptop; 117M, 345M, 762M, 1542M, PrettyBig, nano, micro), or a file.json
            json: print the run's summary as JSON
        """
        from gpt2lab.train.loop import train
        from gpt2lab.train.report import write_run_report

        summary = train(options, tokens, out)
        write_run_report(out, _command_line())
        if json:
            return _print_json(summary)
        loss = f"validation loss {summary.val_loss_last:.3f} after {summary.tokens:,} tokens"
        say(f"{summary.model}: {loss}; see {out}/report.html")
        say(_told(f"gpt2lab generate {summary.model} 'Once upon a time'"))
        return None

    return command


def _evaluate() -> Callable[..., None]:
    import tyro

    from gpt2lab.evaluate import evaluation

    def command(
        model: tyro.conf.Positional[Path],
        data: tyro.conf.Positional[Path],
        out: Path | None = None,
        held_out_share: float | None = None,
        cloze_items: int = 200,
        json: bool = False,
    ) -> None:
        """Measure a model on documents or a text file: loss, bits per byte, and a ten-way cloze test.

        Args:
            model: a model folder
            data: a folder that `build` made, Parquet files with a column text, or a .txt file
            out: folder for results.json and cloze.jsonl
            held_out_share: only the documents that `tokenize` held out at this share
            cloze_items: questions of the cloze test; 0 leaves it out
            json: print the results as JSON
        """
        from gpt2lab.generate.language_model import LanguageModel

        found = evaluation.evaluate(
            LanguageModel.load(model), data, out, held_out_share=held_out_share, cloze_items=cloze_items
        )
        if json:
            return _print_json(found)
        scores = found.language_modelling
        print(f"documents      {scores.documents:,} ({scores.tokens:,} tokens, {scores.text_bytes:,} bytes)")
        loss, bits = scores.loss_standard_error, scores.bits_per_byte_standard_error
        print(f"loss           {scores.loss:.4f}{'' if loss is None else f' ± {loss:.4f}'} nats a token")
        print(f"bits per byte  {scores.bits_per_byte:.4f}{'' if bits is None else f' ± {bits:.4f}'}")
        if found.cloze is not None:
            cloze = found.cloze
            accuracy = f"{cloze.accuracy:.1%} ± {cloze.standard_error:.1%}"
            print(f"cloze          {accuracy} of {cloze.items} (chance {cloze.chance:.0%})")
        return None

    return command


def _generate() -> Callable[..., None]:
    import tyro

    from gpt2lab.generate.language_model import LanguageModel
    from gpt2lab.generate.sampling import SamplingOptions

    def command(
        model: tyro.conf.Positional[Path],
        prompt: tyro.conf.Positional[str] = "",
        options: Annotated[SamplingOptions, tyro.conf.arg(name="")] = SamplingOptions(),  # noqa: B008 - frozen
        json: bool = False,
    ) -> None:
        """Continue a prompt, streaming to the terminal; an empty prompt starts a document.

        Args:
            model: a model folder
            prompt: the text to continue; - reads it from standard input (so may one that begins with a dash)
            json: print one JSON object instead of streaming
        """
        if prompt == "-":
            prompt = sys.stdin.read()
        decoding = LanguageModel.load(model).stream(prompt, options)
        if decoding.dropped_prompt_tokens:
            dropped = decoding.dropped_prompt_tokens
            say(f"the prompt is longer than the context: its first {dropped:,} tokens are not seen.")
        if json:
            return _print_json(decoding.completion("".join(decoding)))
        print(prompt, end="", flush=True)
        for piece in decoding:
            print(piece, end="", flush=True)
        print()
        if decoding.window_slides:
            say(f"the text outgrew the context: {decoding.window_slides:,} times its older half was let go.")
        return None

    return tyro.conf.configure(tyro.conf.UseAppendAction)(command)


def _demo() -> Callable[..., None]:
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
        values = demo(options, _command_line())
        if json:
            return _print_json(values)
        say(
            f"{options.out}: {values['pages_fetched']:,} pages, validation loss {values['val_loss_last']:.2f}"
            f" (unigram model {values['unigram_val_loss']:.2f}); open {options.out}/report.html"
        )
        say(_told(f"gpt2lab generate {options.out}/model 'This module'"))
        return None

    return command


VERBS = {
    "links": Verb("Reddit dumps, URL lists -> links worth fetching, each once", _links),
    "fetch": Verb("links -> pages: fetch them politely into WARC files", _fetch),
    "build": Verb("pages, texts -> documents: extract, filter, remove duplicates", _build),
    "why": Verb("a build + an id or URL -> why that page is in or out", _why),
    "overlap": Verb("documents + evaluation sets -> how much of the sets the documents hold", _overlap),
    "tokenize": Verb("documents -> token shards, with GPT-2's tokenizer or your own", _tokenize),
    "tokens train": Verb("documents -> a byte-level BPE of your own", _tokens_train),
    "tokens inspect": Verb("token shards -> are they whole, what do they hold, what stands where", _tokens_inspect),
    "tokens compare": Verb("tokenizers + texts -> bytes a token of each", _tokens_compare),
    "tokens export": Verb("token shards -> those of nanoGPT, llm.c, Hugging Face", _tokens_export),
    "tokens import": Verb("token shards of nanoGPT, llm.c, Hugging Face -> ours", _tokens_import),
    "train": Verb("token shards + a recipe -> a run with a model", lambda: _train("laptop:nano", 50_257)),
    "evaluate": Verb("a model + documents -> loss, bits per byte, cloze accuracy", _evaluate),
    "generate": Verb("a model + a prompt -> text", _generate),
    "demo": Verb("the whole way once, on pages every Python can serve", _demo),
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
    """The function of a verb, its defaults settled: those of `train` are the named recipe's, fit to the tokens."""
    if name != "train":
        return VERBS[name].command()
    import argparse

    from gpt2lab.tokens.shards import read_tokens_info

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--recipe", default="laptop:nano")
    known, others = first.parse_known_args(arguments)
    tokens = next((Path(word) for word in others if Path(word, "tokens.json").exists()), None)
    return _train(known.recipe, read_tokens_info(tokens).vocab_size if tokens else 50_257)


def _command_line() -> str:
    return shlex.join(["gpt2lab", *sys.argv[1:]])


def main() -> None:
    """Run the command line; exits with 2 on bad input or options."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text(), end="")
        return
    if arguments[0] == "--version":
        from gpt2lab import __version__

        print(f"gpt2lab {__version__}")
        return
    family = [name for name in VERBS if name.startswith(f"{arguments[0]} ")]
    if family and arguments[1:] in ([], ["-h"], ["--help"]):
        print(f"usage: gpt2lab {arguments[0]} VERB [options]\n\n{_listed(family)}")
        return
    try:
        name, options = _verb_and_options(arguments)
        import tyro

        tyro.cli(verb_command(name, options), prog=f"gpt2lab {name}", args=options)
    except UserError as error:
        say(f"error: {error}")
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt as interrupt:
        say(str(interrupt) or "interrupted.")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_PIPE_CLOSED)
    except OSError as error:
        if error.filename is None:
            raise
        say(f"error: {error.filename}: {error.strerror}.")
        sys.exit(EXIT_USER_ERROR)


if __name__ == "__main__":
    main()
