"""The training loop: a recipe and token shards in, a run folder out.

    run/
      recipe.json       the resolved recipe, from which the run can be repeated
      run.json          what was asked for, tokens, machine, versions
      metrics.jsonl     one line a step and one a validation; events.* is the same for TensorBoard
      checkpoints/      the newest whole states
      model/            the model folder, at the end
      summary.json      at the end: the run is finished

Two runs of one recipe on one machine give the same bits, and so does a run that was killed and started again: the data
of a step, and its dropout, are functions of (seed, step).
"""

import json
import math
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpt2lab.base.errors import BadInput, BadOption, UserError, explain_full_disk
from gpt2lab.base.files import locked_folder, read_json, whole_file, write_json
from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.base.progress import progress_bar, say
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.evaluate.language_modelling import unigram_loss
from gpt2lab.model.config import parameter_count, training_flops_per_token
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.tokens.bpe import ByteLevelBPE
from gpt2lab.tokens.sequences import IGNORED, Batch, document_numbers
from gpt2lab.train.checkpointing import Progress, checkpoints, restore_checkpoint, save_checkpoint
from gpt2lab.train.data import (
    TokenFolder,
    check_token_folders,
    held_out_batches,
    open_token_folders,
    training_counts,
    training_loader,
)
from gpt2lab.train.optimizers.groups import make_optimizer
from gpt2lab.train.recipe import Recipe, changed_keys, recipe_from_json, recipe_to_json
from gpt2lab.train.schedule import learning_rate_share

WARM_UP_STEPS, TIMED_STEPS = 3, 9
LossFunction = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Diverged(UserError):
    """The loss or the gradient is no longer a number."""


@dataclass(frozen=True)
class RunSummary:
    """What a finished run came to; losses in nats a token, speed over training steps alone."""

    steps: int
    tokens: int
    parameters: int
    train_loss_last: float
    val_loss_first: float
    val_loss_last: float
    val_bits_per_byte_last: float
    unigram_val_loss: float
    """of the model that knows only how often each training token occurs, on the same held-out sequences"""
    tokens_per_second: float
    flops_per_second: float
    training_seconds: float
    seconds: float
    model: str


@dataclass(frozen=True)
class Validation:
    """Validation on held-out sequences: loss in nats a token, and bits per byte of the text predicted."""

    step: int
    loss: float
    bits_per_byte: float


def train(recipe: Recipe, tokens: Sequence[Path], out: Path) -> RunSummary:
    """Train by `recipe` on the shards in the folders `tokens`, into `out`; goes on where an earlier call stopped.

    Raises BadOption when `out` holds a run of another recipe, the tokens have more ids than the model or the weights
    can't be used, BadInput for unusable shards, Diverged when the loss is no number, NoSpace when the disk is full.
    """
    folders, tokenizer = open_token_folders(tokens, recipe)
    with locked_folder(out), explain_full_disk(out):
        _check_same_run(recipe, folders, out)
        if (out / "summary.json").exists():
            say(f"{out}: this run is finished. Choose another --out to train again.")
            return RunSummary(**read_json(out / "summary.json"))
        return _Run(recipe, folders, tokenizer, out).run()


def _check_same_run(recipe: Recipe, folders: Sequence[TokenFolder], out: Path) -> None:
    if not (out / "run.json").exists():
        return
    before = read_json(out / "run.json")
    asked = recipe_from_json(before["asked"], str(out / "run.json"))  # keys that are newer than the run: as they were
    changed = changed_keys(recipe_to_json(asked), recipe_to_json(recipe))
    if before["shards"] != _shard_hashes(folders):
        changed.append("the tokens")
    if changed:
        raise BadOption(f"{out}: holds a run of another recipe; changed: {', '.join(changed)}. Choose another --out.")


def _shard_hashes(folders: Sequence[TokenFolder]) -> list[list[str]]:
    return [[shard.sha256 for shard in folder.info.shards] for folder in folders]


class _Run:
    """One run under way."""

    def __init__(self, recipe: Recipe, folders: Sequence[TokenFolder], tokenizer: ByteLevelBPE, out: Path) -> None:
        self.asked, self.folders, self.tokenizer, self.out = recipe, folders, tokenizer, out
        self.loader = training_loader(recipe, folders)
        self.val_batches = [self._tensors(batch) for batch in held_out_batches(recipe, folders)]
        check_token_folders(folders)
        if len(folders) > 1:
            say("mixture: " + ", ".join(f"{folder.weight:.1%} {folder.path}" for folder in folders))
        self.bytes_of_token = torch.tensor([len(token) for token in tokenizer.token_bytes])

    def _tensors(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Inputs, targets and, where the recipe masks, the documents' numbers, each int64 [rows, context_length]."""
        inputs, targets = torch.from_numpy(batch)
        if not self.asked.data.document_mask:
            return inputs, targets, None
        return inputs, targets, torch.from_numpy(document_numbers(batch[0], self.tokenizer.end_of_text))

    def _fresh(self) -> None:
        """A new network and optimizer, as the seed says."""
        self.network = GPT2(self.asked.model)
        self.network.initialize(torch.Generator().manual_seed(self.asked.seed))
        self.optimizer = make_optimizer(self.network, self.asked.optimizer)
        self.loss: LossFunction = self.network.loss
        if self.asked.compile and shutil.which("c++") is None:
            say("no C++ compiler here: training without torch.compile.")
        elif self.asked.compile:
            self.loss = torch.compile(self.network.loss)

    def run(self) -> RunSummary:
        self._fresh()
        self.recipe = self._resolve()
        progress = self._resume()
        progress = self._steps(progress)
        return self._finish(progress)

    def _resolve(self) -> Recipe:
        """The recipe with `minutes` turned into steps: worked out once, then read from the run folder."""
        path = self.out / "recipe.json"
        if path.exists():
            return recipe_from_json(read_json(path), str(path))
        recipe = self.asked
        if recipe.minutes:
            steps = self._steps_in(recipe.minutes * 60)
            schedule = replace(recipe.schedule, warmup_steps=min(recipe.schedule.warmup_steps, steps // 5))
            recipe = replace(recipe, steps=steps, minutes=0.0, schedule=schedule)
            self._fresh()
        write_json(
            self.out / "run.json",
            {
                "asked": recipe_to_json(self.asked),
                "tokenizer_sha256": self.tokenizer.sha256,
                "tokens": self._folders_to_json(),
                "shards": _shard_hashes(self.folders),
                "threads": torch.get_num_threads(),
                "machine": describe_machine(),
                "versions": describe_versions(),
            },
        )
        write_json(path, recipe_to_json(recipe))
        return recipe

    def _folders_to_json(self) -> list[dict[str, Any]]:
        return [
            {
                "folder": str(folder.path),
                "weight": folder.weight,
                "train_tokens": folder.info.total("train"),
                "held_out_share": folder.info.held_out_share,
            }
            for folder in self.folders
        ]

    def _steps_in(self, seconds: float) -> int:
        """How many steps, validations included, fit into `seconds`: a short measurement on a network thrown away."""
        times = []
        for step in range(WARM_UP_STEPS + TIMED_STEPS):
            start = time.perf_counter()
            self._step(step, 1.0)
            times.append(time.perf_counter() - start)
        start = time.perf_counter()
        self._validate(0)
        validation_seconds = time.perf_counter() - start
        step_seconds = statistics.median(times[WARM_UP_STEPS:])
        per_step = step_seconds + validation_seconds / self.asked.watch.validate_every
        steps = max(1, int((seconds - 2 * validation_seconds) / per_step))
        say(f"a step takes {step_seconds:.3f} s here: {steps:,} steps in {seconds / 60:g} minutes.")
        return steps

    def _resume(self) -> Progress:
        """Load the newest checkpoint, if any, and cut the metrics back to it."""
        found = checkpoints(self.out / "checkpoints")
        progress = Progress(0, 0.0, 0.0)
        if found:
            progress = restore_checkpoint(found[-1], self.network, self.optimizer)
            say(f"{self.out}: going on from step {progress.step:,}.")
        metrics = self.out / "metrics.jsonl"
        kept = [line for line in _whole_lines(metrics) if json.loads(line)["step"] <= progress.step and found]
        with whole_file(metrics, "w") as handle:
            handle.writelines(kept)
        return progress

    def _step(self, step: int, rate_share: float) -> tuple[float, float]:
        """One optimizer step at a share of the peak learning rates; returns loss, and gradient norm before clipping."""
        recipe = self.asked
        if recipe.model.embd_pdrop or recipe.model.attn_pdrop or recipe.model.resid_pdrop:
            torch.manual_seed(int(np.random.SeedSequence([recipe.seed, step]).generate_state(1)[0]))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * rate_share
        inputs, targets, documents = self._tensors(self.loader.batch(step))
        counted = int((targets != IGNORED).sum())
        total = 0.0
        self.network.train()
        for part in range(recipe.batch.accumulation):
            rows = slice(part * recipe.batch.sequences, (part + 1) * recipe.batch.sequences)
            share = int((targets[rows] != IGNORED).sum()) / counted
            part_documents = None if documents is None else documents[rows]
            loss = self.loss(inputs[rows], targets[rows], part_documents) * share
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        limit = recipe.optimizer.clip_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit))
        if not (math.isfinite(total) and math.isfinite(norm)):
            good = checkpoints(self.out / "checkpoints")
            peaks = {group["peak_lr"] for group in self.optimizer.param_groups}
            raise Diverged(
                f"{self.out}: at step {step + 1} the loss is {total} and the gradient's norm {norm}. The last good"
                f" state is {good[-1] if good else 'the start'}; most likely the learning rate"
                f" ({' and '.join(str(rate) for rate in sorted(peaks))}) is too high."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total, norm

    @torch.inference_mode()
    def _validate(self, step: int) -> Validation:
        """Loss and bits per byte on the held-out sequences; `<|endoftext|>` costs loss but stands for no byte."""
        self.network.eval()
        nats, text_nats, tokens, text_bytes = 0.0, 0.0, 0, 0
        for inputs, targets, documents in self.val_batches:
            logits_NV, targets_N = self.network(inputs, documents_BT=documents).flatten(0, 1), targets.flatten()
            nats_N = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none").double()
            counted = targets_N != IGNORED
            nats_N, targets_N = nats_N[counted], targets_N[counted]
            is_text_N = targets_N != self.tokenizer.end_of_text
            nats += float(nats_N.sum())
            text_nats += float(nats_N[is_text_N].sum())
            tokens += len(targets_N)
            text_bytes += int(self.bytes_of_token[targets_N].sum())
        return Validation(step, nats / tokens, text_nats / math.log(2) / text_bytes)

    def _unigram_loss(self) -> float:
        targets_N = torch.cat([targets[targets != IGNORED] for _, targets, _ in self.val_batches]).numpy()
        train_counts = training_counts(self.folders)
        return unigram_loss(train_counts, np.bincount(targets_N, minlength=len(train_counts)))

    def _steps(self, progress: Progress) -> Progress:
        """Train from `progress` to the end."""
        from torch.utils.tensorboard.writer import SummaryWriter

        recipe, watch = self.recipe, self.recipe.watch
        tokens_a_step = self.loader.batch_size * recipe.model.context_length
        start = time.perf_counter() - progress.seconds
        board: Any = SummaryWriter(str(self.out), purge_step=progress.step + 1)
        with (
            _interrupt_noted() as interrupted,
            (self.out / "metrics.jsonl").open("a", encoding="utf-8") as metrics,
            progress_bar("train", total=recipe.steps * tokens_a_step, unit="tokens") as bar,
        ):
            words = ""

            def record(step: int, values: dict[str, float]) -> None:
                metrics.write(json.dumps({"step": step} | values) + "\n")
                metrics.flush()
                for name, value in values.items():
                    board.add_scalar(name, value, step)

            def validate(step: int) -> str:
                found = self._validate(step)
                record(step, {"val_loss": found.loss, "val_bits_per_byte": found.bits_per_byte})
                return f"val loss {found.loss:.3f}"

            bar.skip(progress.step * tokens_a_step)
            if progress.step == 0:
                words = validate(0)
            for step in range(progress.step, recipe.steps):
                rate_share = learning_rate_share(recipe.schedule, step, recipe.steps)
                step_start = time.perf_counter()
                loss, norm = self._step(step, rate_share)
                step_seconds = time.perf_counter() - step_start
                done, last = step + 1, step + 1 == recipe.steps
                progress = Progress(done, progress.training_seconds + step_seconds, time.perf_counter() - start)
                record(
                    done,
                    {
                        "loss": loss,
                        "gradient_norm": norm,
                        "learning_rate": recipe.optimizer.learning_rate * rate_share,
                        "tokens": done * tokens_a_step,
                        "tokens_per_second": tokens_a_step / step_seconds,
                    },
                )
                if done % watch.validate_every == 0 or last:
                    words = validate(done)
                if done % watch.checkpoint_every == 0 or last or interrupted.is_set():
                    save_checkpoint(
                        self.out / "checkpoints", self.network, self.optimizer, progress, watch.keep_checkpoints
                    )
                if interrupted.is_set() and not last:
                    raise KeyboardInterrupt(f"{self.out}: saved at step {done:,}; the same command goes on from there.")
                bar.advance(tokens_a_step, note=f"loss {loss:.3f} {words}")
        board.close()
        return progress

    def _finish(self, progress: Progress) -> RunSummary:
        """Write the model folder and, last, the summary that marks the run as finished."""
        lines = read_metrics(self.out)
        validations = [line for line in lines if "val_loss" in line]
        losses = [line["loss"] for line in lines if "loss" in line]
        tokens = progress.step * self.loader.batch_size * self.recipe.model.context_length
        speed = tokens / progress.training_seconds
        summary = RunSummary(
            steps=progress.step,
            tokens=tokens,
            parameters=parameter_count(self.recipe.model),
            train_loss_last=losses[-1],
            val_loss_first=validations[0]["val_loss"],
            val_loss_last=validations[-1]["val_loss"],
            val_bits_per_byte_last=validations[-1]["val_bits_per_byte"],
            unigram_val_loss=self._unigram_loss(),
            tokens_per_second=speed,
            flops_per_second=speed * training_flops_per_token(self.recipe.model),
            training_seconds=progress.training_seconds,
            seconds=progress.seconds,
            model=str(self.out / "model"),
        )
        provenance = {
            "made_by": "gpt2lab train",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": recipe_to_json(self.recipe),
            "tokenizer_sha256": self.tokenizer.sha256,
            "train_tokens_available": sum(folder.info.total("train") for folder in self.folders),
            "tokens": [
                described | {"shards": [asdict(shard) for shard in folder.info.shards]}
                for described, folder in zip(self._folders_to_json(), self.folders, strict=True)
            ],
            "result": asdict(summary),
            "versions": describe_versions(),
            "machine": describe_machine(),
        }
        save_model_folder(self.out / "model", self.network, self.tokenizer, provenance)
        write_json(self.out / "summary.json", asdict(summary))
        return summary


@contextmanager
def _interrupt_noted() -> Iterator[threading.Event]:
    """Let Ctrl-C set an event, so that a step is finished and saved; a second one interrupts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(*_: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file that end in a newline; the last one may have been cut by a kill."""
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; raises BadInput where there is none."""
    path = run / "metrics.jsonl"
    if not path.exists():
        raise BadInput(f"{run}: no run folder (no metrics.jsonl here).")
    return [json.loads(line) for line in _whole_lines(path)]
