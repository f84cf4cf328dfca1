"""Verbs of tokens."""

import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from gpt2lab.base.progress import say
from gpt2lab.cli.output import command_line, next_command, print_json


def tokenize_verb() -> Callable[..., None]:
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
        write_tokens_report(info, out, command_line())
        if json:
            return print_json(info)
        counts = f"{info.total('train'):,} training and {info.total('val'):,} held-out tokens"
        say(f"{out}: {counts} of {info.vocab_size:,} ids; bytes a token by source: {out}/report.html")
        say(next_command(f"gpt2lab train {out} --out runs/mine --recipe modern:nano --minutes 5"))
        return None

    return command


def tokens_train_verb() -> Callable[..., None]:
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
            return print_json(made)
        fewer = f", not {vocab_size:,}: no other pair of tokens occurs twice" if made.vocab_size < vocab_size else ""
        say(f"{out}: a byte-level BPE of {made.vocab_size:,} ids{fewer}.")
        say(
            next_command(
                shlex.join(["gpt2lab", "tokenize", str(documents[0]), "--tokenizer", str(out), "--out", "tokens/"])
            )
        )
        return None

    return command


def tokens_inspect_verb() -> Callable[..., None]:
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
            return print_json(place) if json else print(told_place(place))
        check_shards(tokens, read_tokens_info(tokens))
        found = inspect_tokens(tokens)
        return print_json(found) if json else print(statistics_table(found))

    return command


def tokens_compare_verb() -> Callable[..., None]:
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
        return print_json([asdict(one) for one in found]) if json else print(comparison_table(tokenizers, found))

    return command


def tokens_export_verb() -> Callable[..., None]:
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
            return print_json([str(file) for file in files])
        say(f"{out}: {', '.join(file.name for file in files[:3])}{', ...' if len(files) > 3 else ''}.")
        hints = {
            "nanogpt": f"copy {out}/*.bin to nanoGPT's data/NAME/ and train with --dataset=NAME",
            "llm.c": f"./train_gpt2cu -i '{out}/*_train_*.bin' -j '{out}/*_val_*.bin'",
            "hf": f"python -c \"import datasets; print(datasets.load_dataset('{out}'))\"",
        }
        say(next_command(hints[to]))
        return None

    return command


def tokens_import_verb() -> Callable[..., None]:
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
            return print_json(info)
        say(f"{out}: {info.total('train'):,} training and {info.total('val'):,} held-out tokens.")
        say(next_command(f"gpt2lab tokens inspect {out}"))
        return None

    return command
