"""The whole way once, on pages that every Python can serve: links, pages, documents, tokens, training, evaluation.

Every stage is the code that a real crawl runs through, and leaves a plain folder that the next one reads:

    runs/demo/
      links.txt   pages/   documents/   tokens/   train/   evaluation/   model/   report.html   report.json
"""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gpt2lab.base.errors import BadOption
from gpt2lab.base.files import locked_folder, read_json, whole_file, whole_folder, write_json
from gpt2lab.base.machine import PeakMemory, describe_machine, describe_versions
from gpt2lab.base.progress import say
from gpt2lab.datasets.documents import read_documents
from gpt2lab.evaluate.cloze import CANDIDATES
from gpt2lab.evaluate.evaluation import Evaluation, evaluate
from gpt2lab.generate.language_model import LanguageModel
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.pipelines.demo_report import write_demo_report
from gpt2lab.pipelines.pydoc_site import collect_links, pydoc_site
from gpt2lab.tokens.shards import TokensInfo, is_held_out
from gpt2lab.tokens.tokenize import tokenize
from gpt2lab.train.loop import RunSummary, train
from gpt2lab.train.recipe import Recipe
from gpt2lab.train.recipes import modern
from gpt2lab.train.watching.report import write_run_report
from gpt2lab.webtext.build import BuildOptions, BuildReport, build
from gpt2lab.webtext.crawl.fetch import FetchOptions, fetch, read_links
from gpt2lab.webtext.extraction.extract import PYDOC_EXTRACTOR, PYDOC_SKIP_ELEMENTS
from gpt2lab.webtext.overlap.overlap import Overlap, overlap

HELD_OUT_SHARE = 0.1
VOCAB_SIZE = 4096
CLOZE_ITEMS = 200
DEMO_FILTERS = ("paper", "gopher-quality", "duplicate_lines", "duplicate_line_characters")
"""Not `web`: documentation has short lines without final marks, and says the same things again."""
PROMPTS = ("", "Return the", "This module provides", "class ")
SAMPLE = SamplingOptions(max_tokens=120, temperature=0.8, top_k=40)


@dataclass(frozen=True)
class DemoOptions:
    """How the demo runs."""

    out: Path = Path("runs/demo")
    """where everything goes"""
    minutes: float = 5.0
    """time for training; turned into a number of steps once"""
    fresh: bool = False
    """start over"""
    pages: int | None = None
    """fetch no more than this many pages"""
    seed: int = 0
    """decides the weights, the order of the data, and the samples"""

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise BadOption(f"--minutes {self.minutes}: must be above 0.")
        if self.pages is not None and self.pages < 1:
            raise BadOption(f"--pages {self.pages}: must be at least 1.")


def demo(options: DemoOptions, command: str = "gpt2lab demo") -> dict[str, Any]:
    """Run the demo, or go on with it, and return what `report.json` says; reports name the `command` that made them.

    Raises BadOption when `out` holds a demo made with other options.
    """
    out = options.out
    if options.fresh and out.exists():
        if not (out / "asked.json").exists() and any(out.iterdir()):
            raise BadOption(
                f"{out}: holds something else than a demo, so --fresh does not delete it; name another --out."
            )
        shutil.rmtree(out)
    asked = {"minutes": options.minutes, "pages": options.pages, "seed": options.seed}
    if (out / "asked.json").exists() and (before := read_json(out / "asked.json")) != asked:
        changed = ", ".join(
            f"{key} ({before.get(key)} -> {value})" for key, value in asked.items() if before.get(key) != value
        )
        raise BadOption(f"{out}: holds a demo with other options; changed: {changed}. Add --fresh to start over.")
    if (out / "report.json").exists():
        say(f"{out}: this demo is finished; add --fresh to start over.")
        return dict(read_json(out / "report.json"))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "asked.json", asked)
    with locked_folder(out):
        return _Demo(options, command).run()


class _Demo:
    """One demo under way; `seconds` and the peak memory survive a restart in `stages.json`."""

    def __init__(self, options: DemoOptions, command: str) -> None:
        self.options, self.out, self.command = options, options.out, command
        self.notes = self.out / "stages.json"
        saved: dict[str, Any] = read_json(self.notes) if self.notes.exists() else {}
        self.seconds: dict[str, float] = saved.get("seconds", {})
        self.peak: int = saved.get("peak_memory_bytes", 0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and watch its memory; a stage taken up again adds to its seconds."""
        start = time.monotonic()
        with PeakMemory() as memory:
            yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 2)
        self.peak = max(self.peak, memory.peak)
        write_json(self.notes, {"seconds": self.seconds, "peak_memory_bytes": self.peak})

    def run(self) -> dict[str, Any]:
        out = self.out
        with self.stage("fetch"):
            pages = self._fetch()
        with self.stage("build"):
            built = self._build()
        with self.stage("overlap"):
            overlapping = self._overlap()
        with self.stage("tokenize"):
            info = tokenize(out / "documents", out / "tokens", vocab_size=VOCAB_SIZE, held_out_share=HELD_OUT_SHARE)
        with self.stage("train"):
            summary = train(self._recipe(info), [out / "tokens"], out / "train", command=self.command)
            write_run_report(out / "train", self.command)
        with self.stage("evaluate"):
            with whole_folder(out / "model") as folder:
                shutil.copytree(out / "train" / "model", folder, dirs_exist_ok=True)
            model = LanguageModel.load(out / "model")
            evaluation = evaluate(
                model,
                out / "documents",
                out / "evaluation",
                held_out_share=HELD_OUT_SHARE,
                cloze_items=CLOZE_ITEMS,
                stride=model.network.config.context_length,
            )
        with self.stage("sample"):
            samples = self._samples(model)
        values = self._values(pages, built, overlapping, info, summary, evaluation, samples)
        write_demo_report(out, values, built)
        write_json(out / "report.json", values)
        return values

    def _fetch(self) -> int:
        """Serve pydoc, list its pages, fetch them; returns how many pages there are."""
        folder, links_file = self.out / "pages", self.out / "links.txt"
        # A crawl taken up again must meet the server at its old address, which is in the links.
        port = urlsplit(read_links(links_file)[0]).port if links_file.exists() else 0
        log = folder / "fetch.jsonl"
        if not (links_file.exists() and log.exists() and _lines(log) == len(set(read_links(links_file)))):
            with pydoc_site(port=port or 0) as url:
                if not links_file.exists():
                    with whole_file(links_file, "w") as handle:
                        handle.writelines(f"{link}\n" for link in collect_links(url)[: self.options.pages])
                options = FetchOptions(minimum_gap_seconds=0.0, allow_private=True, contact="gpt2lab demo on loopback")
                fetch(links_file, folder, options)
        return sum(json.loads(line)["error"] is None for line in log.read_text(encoding="utf-8").splitlines())

    def _build(self) -> BuildReport:
        """Extract as suits this site, and keep what reads like prose: much of pydoc is lists of inherited methods."""
        options = BuildOptions(extractor=PYDOC_EXTRACTOR, skip_elements=PYDOC_SKIP_ELEMENTS, filters=DEMO_FILTERS)
        return build([self.out / "pages"], self.out / "documents", options)

    def _texts(self, held_out: bool) -> Iterator[str]:
        for document in read_documents(self.out / "documents"):
            if is_held_out(document.text, HELD_OUT_SHARE) is held_out:
                yield document.text

    def _overlap(self) -> Overlap:
        return overlap(self._texts(held_out=True), self._texts(held_out=False))

    def _recipe(self, info: TokensInfo) -> Recipe:
        return replace(
            modern("nano", info.vocab_size), minutes=self.options.minutes, seed=self.options.seed, name="modern:nano"
        )

    def _samples(self, model: LanguageModel) -> list[dict[str, str]]:
        options = replace(SAMPLE, seed=self.options.seed)
        return [{"prompt": prompt, "text": model.generate(prompt, options).text} for prompt in PROMPTS]

    def _values(
        self,
        pages: int,
        built: BuildReport,
        overlapping: Overlap,
        info: TokensInfo,
        summary: RunSummary,
        evaluation: Evaluation,
        samples: list[dict[str, str]],
    ) -> dict[str, Any]:
        """What `report.json` says."""
        cloze = evaluation.cloze
        return {
            "pages_fetched": pages,
            "documents_kept": built.kept,
            "documents_removed": built.removed,
            "text_bytes": built.bytes,
            "overlap_8grams": overlapping.share,
            "tokens_train": info.total("train"),
            "tokens_val": info.total("val"),
            "vocab_size": info.vocab_size,
            "parameters": summary.parameters,
            "steps": summary.steps,
            "tokens_trained": summary.tokens,
            "val_loss_first": summary.val_loss_first,
            "val_loss_last": summary.val_loss_last,
            "val_bits_per_byte_last": summary.val_bits_per_byte_last,
            "unigram_val_loss": summary.unigram_val_loss,
            "held_out_pages": asdict(evaluation.language_modelling),
            "cloze_accuracy": cloze.accuracy if cloze else None,
            "cloze_standard_error": cloze.standard_error if cloze else None,
            "cloze_chance": 1 / CANDIDATES,
            "cloze_items": cloze.items if cloze else 0,
            "train_tokens_per_second": summary.tokens_per_second,
            "train_gflops_per_second": summary.flops_per_second / 1e9,
            "peak_memory_bytes": self.peak,
            "samples": samples,
            "seconds": self.seconds,
            "command": self.command,
            "versions": describe_versions(),
            "machine": describe_machine(),
        }


def _lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")
