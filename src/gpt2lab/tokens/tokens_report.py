"""The report of `tokenize`: how many tokens, of whom, and how many bytes each of them stands for."""

from pathlib import Path

from gpt2lab.base.machine import report_foot
from gpt2lab.base.plots import bars
from gpt2lab.base.report import Report
from gpt2lab.tokens.shards import TokensInfo

SHOWN_SOURCES = 50
SOURCES_IN_PICTURE = 20


def write_tokens_report(info: TokensInfo, out: Path, command: str) -> None:
    """Write `out/report.html`."""
    documents = sum(shard.documents for shard in info.shards)
    text_bytes = sum(shard.text_bytes for shard in info.shards)
    train, val = info.total("train"), info.total("val")
    bytes_a_token = text_bytes / max(1, train + val - documents)
    report = Report(
        "Tokens",
        f"{documents:,} documents became {train + val:,} tokens, {bytes_a_token:.2f} bytes of text each;"
        f" {val / max(1, train + val):.1%} of them are held out.",
    )
    report.figures(
        [
            ("training tokens", f"{train:,}"),
            ("held-out tokens", f"{val:,}"),
            ("documents", f"{documents:,}"),
            ("bytes a token", f"{bytes_a_token:.3f}"),
            ("ids", f"{info.vocab_size:,}"),
        ]
    )
    ranked = list(info.sources.items())
    largest = ranked[:SOURCES_IN_PICTURE]
    if len(ranked) > 1:
        best, worst = (extreme(largest, key=lambda one: one[1].bytes_a_token) for extreme in (max, min))
        report.picture(
            bars(
                f"A token stands for {worst[1].bytes_a_token:.2f} ({worst[0]}) to {best[1].bytes_a_token:.2f} bytes"
                f" ({best[0]})",
                [(name, round(counts.bytes_a_token, 3)) for name, counts in largest],
                "bytes a token",
            ),
            "More is better: the same context then holds more text. The largest sources, largest first.",
        )
    report.table(
        ["source", "documents", "MB", "tokens", "bytes a token"],
        [
            [
                name,
                f"{counts.documents:,}",
                f"{counts.text_bytes / 1e6:,.2f}",
                f"{counts.tokens:,}",
                f"{counts.bytes_a_token:.3f}",
            ]
            for name, counts in ranked[:SHOWN_SOURCES]
        ],
        "The largest sources",
    )
    report.paragraph(
        "Whose a document is says its column source, else the domain of its URL, else the file it came from."
        " <|endoftext|>, one a document, is among the tokens, but not where bytes a token are told."
    )
    report.heading("Shards")
    report.table(
        ["file", "tokens", "documents", "MB", "from", "SHA-256"],
        [
            [
                shard.file,
                f"{shard.tokens:,}",
                f"{shard.documents:,}",
                f"{shard.text_bytes / 1e6:,.2f}",
                shard.source,
                shard.sha256[:12],
            ]
            for shard in info.shards
        ],
    )
    report.foot([("command", command), ("tokenizer", info.tokenizer_sha256), *report_foot()])
    report.write(out / "report.html")
