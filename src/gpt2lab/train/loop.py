"""The training loop: a recipe and token shards in, a run folder out.

    run/
      recipe.json       the resolved recipe, from which the run can be repeated
      run.json          what was asked for, tokens, machine, versions
      metrics.jsonl     one line a step and one a validation; events.* is the same for TensorBoard
      samples.jsonl     what the network wrote after the recipe's prompts, if it asks for samples
      report.html       anew every while, so that a browser can look on
      checkpoints/      the newest whole states
      model/            the model folder, at the end
      summary.json      at the end: the run is finished

Two runs of one recipe on one machine give the same bits, and so does a run that was killed and started again: the data
of a step, and its dropout, are functions of (seed, step).
"""

import math
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from gpt2lab.base.errors import BadOption, UserError, explain_full_disk
from gpt2lab.base.files import locked_folder, read_json, write_json
from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.base.progress import say
from gpt2lab.checkpoints.model_folder import save_model_folder
from gpt2lab.evaluate.language_modelling import unigram_loss
from gpt2lab.model.config import parameter_count, training_flops_per_token
from gpt2lab.tokens.sequences import IGNORED
from gpt2lab.tokens.sequences import Batch as TokenBatch
from gpt2lab.train.checkpointing import (
    DamagedCheckpoint,
    Progress,
    checkpoint_path,
    checkpoints,
    restore_checkpoint,
    save_checkpoint,
    set_aside,
)
from gpt2lab.train.data import FoldersData, RunData, open_token_folders
from gpt2lab.train.memory import check_memory, explain_no_memory, free_memory
from gpt2lab.train.optimizers.groups import make_optimizer
from gpt2lab.train.precision import with_precision
from gpt2lab.train.recipe import Recipe, changed_keys, recipe_from_json, recipe_to_json, with_steps
from gpt2lab.train.schedule import learning_rate_share
from gpt2lab.train.start import FreshWeights, Start
from gpt2lab.train.step import Batch, StepResult, TrainingStep, autocast, training_device
from gpt2lab.train.validation import validate
from gpt2lab.train.watching.metrics import read_metrics
from gpt2lab.train.watching.samples import draw_samples
from gpt2lab.train.watching.tracker import check_tracker
from gpt2lab.train.watching.watcher import Watcher

WARM_UP_STEPS, TIMED_STEPS = 3, 9
MEASURED_SHARE = 0.1
"""Of the minutes asked for, the most that measuring a step may take; two steps are taken in any case."""
FIXED_IN_A_RUN = (
    "the ",  # tokens, text, model it began with
    "model.",
    "data.",
    "batch.",
    "minutes",
    "optimizer.name",
    "optimizer.beta1",
    "step.weight",
    "initialization.",
    "seed",
)
"""Changed, what was saved would not fit: weights, optimizer's state, the place in the data."""


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
    model_step: int | None = None
    """the step whose weights the model folder has: the last, or with watch.patience that of the best validation"""
    model_val_loss: float | None = None

    @property
    def model_loss(self) -> float:
        """Validation loss of the model folder."""
        return self.val_loss_last if self.model_val_loss is None else self.model_val_loss

    @property
    def model_bits_per_byte(self) -> float:
        """The same in bits a byte, of the same text."""
        return self.val_bits_per_byte_last * self.model_loss / self.val_loss_last


def train(
    recipe: Recipe,
    tokens: Sequence[Path],
    out: Path,
    *,
    allow_change: bool = False,
    command: str = "gpt2lab.train(...)",
) -> RunSummary:
    """Train by `recipe` on the shards in the folders `tokens`, into `out`; goes on where an earlier call stopped.

    `allow_change` goes on with a changed recipe where the saved state fits it. The report that is written meanwhile
    names `command` as what made it. Raises BadOption when `out` holds a run of another recipe, the tokens have more ids
    than the model, the weights can't be used or the memory will not do, BadInput for unusable shards or checkpoints,
    Diverged when the loss is no number, NoSpace when the disk is full, NoMemory when the memory runs out all the same.
    """
    folders, tokenizer = open_token_folders(tokens, recipe)
    data = FoldersData(recipe, folders, tokenizer)
    return train_on(data, recipe, out, allow_change=allow_change, command=command)


def train_on(
    data: RunData,
    recipe: Recipe,
    out: Path,
    start: Start | None = None,
    *,
    allow_change: bool = False,
    command: str = "gpt2lab.train(...)",
) -> RunSummary:
    """Like `train`, on any data, and from the weights of `start`; fresh ones, unless given."""
    check_tracker(recipe)
    start = start or FreshWeights(recipe, data)
    device = training_device()
    with locked_folder(out), explain_full_disk(out):
        recipe = with_precision(recipe, device, out)
        _check_same_run(recipe, data, start, out, allow_change)
        if (out / "summary.json").exists():
            say(f"{out}: this run is finished. Choose another --out to train again.")
            return RunSummary(**read_json(out / "summary.json"))
        check_memory(recipe, device, out, free_memory(device))
        with explain_no_memory(recipe, device, out):
            return _Run(recipe, data, out, start, command).run()


def _check_same_run(recipe: Recipe, data: RunData, start: Start, out: Path, allow_change: bool) -> None:
    """Refuse another recipe than the run's, or take it over where that is allowed and can be."""
    if not (out / "run.json").exists():
        if others := sorted(path.name for path in out.iterdir() if not path.name.startswith(".")):
            raise BadOption(f"{out}: holds something else than a run ({others[0]}). Choose another --out.")
        return
    before = read_json(out / "run.json")
    asked = recipe_from_json(before["asked"], str(out / "run.json"))  # keys that are newer than the run: as they were
    changed = changed_keys(recipe_to_json(asked), recipe_to_json(recipe))
    if before["shards"] != data.hashes():
        changed.append(data.kind)
    # The name that a model was asked for by says nothing: ./model and model are one. Its files' hashes do.
    began, begins = (
        {key: value for key, value in each.items() if key != "model"}
        for each in (before.get("start", {}), start.described())
    )
    changed += changed_keys(began, begins, "the start")
    if not changed:
        return
    fixed = [change for change in changed if change.startswith(FIXED_IN_A_RUN)]
    if allow_change and fixed:
        raise BadOption(f"{out}: {', '.join(fixed)}: can't change within a run. Choose another --out.")
    if not allow_change:
        remedy = "." if fixed else ", or go on with --allow-change."
        raise BadOption(
            f"{out}: holds a run of another recipe; changed: {', '.join(changed)}. Choose another --out{remedy}"
        )
    say(f"{out}: going on with a changed recipe: {', '.join(changed)}.")
    steps = recipe_from_json(read_json(out / "recipe.json"), str(out / "recipe.json")).steps
    resolved = with_steps(recipe, steps) if recipe.minutes else recipe
    write_json(out / "recipe.json", recipe_to_json(resolved))
    changes = [*before.get("changes", ()), {"date": datetime.now(UTC).isoformat(timespec="seconds"), "keys": changed}]
    write_json(out / "run.json", before | {"asked": recipe_to_json(recipe), "changes": changes})
    (out / "summary.json").unlink(missing_ok=True)  # a finished run goes on, too


class _Run:
    """One run under way."""

    def __init__(self, recipe: Recipe, data: RunData, out: Path, start: Start, command: str) -> None:
        self.asked, self.data, self.out, self.start, self.command = recipe, data, out, start, command
        self.recipe, self.tokenizer = recipe, data.tokenizer
        self._began = time.perf_counter()
        self._validations: list[tuple[int, float]] = []
        """step and loss of each validation so far"""
        self.val_batches = [_tensors(batch) for batch in data.held_out()]
        data.check()

    def _fresh(self) -> None:
        """The network and optimizer that a run begins with."""
        self.network = self.start.network().to(training_device())
        self.network.restart_positions = self.data.restart_positions
        self.optimizer = make_optimizer(self.network, self.asked.optimizer)
        self.step = TrainingStep(self.asked, self.network, self.optimizer)

    def run(self) -> RunSummary:
        self._fresh()
        self.recipe = self._resolve()
        return self._steps(self._resume())

    def _resolve(self) -> Recipe:
        """The recipe with `minutes` turned into steps: worked out once, then read from the run folder."""
        path = self.out / "recipe.json"
        if path.exists():
            return recipe_from_json(read_json(path), str(path))
        recipe = self.asked
        if recipe.minutes:
            steps = self._steps_in(recipe.minutes * 60)
            recipe = with_steps(recipe, steps)
            self._fresh()
        elif recipe.schedule.warmup_steps >= recipe.steps:
            say(
                f"warning: the warm-up ({recipe.schedule.warmup_steps:,} steps) is not over when the {recipe.steps:,}"
                " steps are: the learning rate never comes to its peak. Set --schedule.warmup-steps."
            )
        write_json(
            self.out / "run.json",
            {
                "asked": recipe_to_json(self.asked),
                "tokenizer_sha256": self.tokenizer.sha256,
                "tokens": self.data.described(),
                "shards": self.data.hashes(),
                "start": self.start.described(),
                "threads": torch.get_num_threads(),
                "machine": describe_machine(),
                "versions": describe_versions(),
            },
        )
        write_json(path, recipe_to_json(recipe))
        return recipe

    def _steps_in(self, seconds: float) -> int:
        """How many steps fit into `seconds`, with validations and samples: measured on a network thrown away."""
        times: list[float] = []
        while len(times) < WARM_UP_STEPS + TIMED_STEPS:
            start = time.perf_counter()
            self._take(len(times))
            times.append(time.perf_counter() - start)
            if len(times) > 1 and sum(times) > MEASURED_SHARE * seconds:
                break
        start = time.perf_counter()
        self._validate()
        validation_seconds = time.perf_counter() - start
        step_seconds = statistics.median(times[WARM_UP_STEPS:] or times[1:])
        per_step = step_seconds + validation_seconds / self.asked.watch.validate_every
        if self.asked.watch.sample_every:
            start = time.perf_counter()
            draw_samples(self.step.result_network, self.tokenizer, self.asked, step=0)
            per_step += (time.perf_counter() - start) / self.asked.watch.sample_every
        steps = max(1, int((seconds - 2 * validation_seconds) / per_step))
        say(f"a step takes {step_seconds:.3f} s here: {steps:,} steps in {seconds / 60:g} minutes.")
        return steps

    def _resume(self) -> Progress:
        """Load the newest checkpoint that is whole, if any; a damaged one is set aside, and said."""
        found = checkpoints(self.out / "checkpoints")
        if not found:
            return Progress(0, 0.0, 0.0)
        for path in reversed(found):
            try:
                progress = restore_checkpoint(path, self.network, self.optimizer, self.step.averaged)
            except DamagedCheckpoint as error:
                say(f"warning: {error} It is kept as {set_aside(path).name}; going back to the checkpoint before.")
                continue
            self.step.memory = progress.memory
            say(f"{self.out}: going on from step {progress.step:,}.")
            return progress
        raise DamagedCheckpoint(
            f"{self.out}: none of its {len(found)} checkpoints is whole. Choose another --out to start over."
        )

    def _rate_share(self, step: int) -> float:
        """Share of the peak learning rates at a step counted from 0."""
        return learning_rate_share(self.recipe.schedule, step, self.recipe.steps)

    def _take(self, step: int) -> StepResult:
        """Step number `step`, counted from 0. Raises Diverged where it can be neither taken nor skipped."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * self._rate_share(step)
        result = self.step.take(step, _tensors(self.data.batch(step)))
        if result.verdict == "diverged":
            norm = result.gradient_norm
            raise self._diverged(f"at step {step + 1} the loss is {result.loss} and the gradient's norm {norm}")
        if result.verdict != "taken":
            say(f"step {step + 1:,} skipped: {result.reason}.")
        return result

    def _validate(self) -> dict[str, float | str]:
        """The line of metrics of a validation."""
        precision = autocast(self.asked.step, training_device())
        found = validate(self.step.result_network, self.val_batches, self.tokenizer, precision)
        return {"val_loss": found.loss, "val_bits_per_byte": found.bits_per_byte}

    def _unigram_loss(self) -> float:
        targets_N = torch.cat([targets[targets != IGNORED] for _, targets, _ in self.val_batches]).numpy()
        train_counts = self.data.counts()
        return unigram_loss(train_counts, np.bincount(targets_N, minlength=len(train_counts)))

    def _steps(self, progress: Progress) -> RunSummary:
        """Train from `progress` to the end."""
        recipe = self.recipe
        with _interrupt_noted() as interrupted, self._watcher(progress) as watcher:
            self._began = time.perf_counter() - progress.seconds
            if progress.step == 0:
                self._record_validation(0, watcher)
            else:
                self._validations = [
                    (line["step"], line["val_loss"]) for line in read_metrics(self.out) if "val_loss" in line
                ]
            last = self._stalled()
            while not last and progress.step < recipe.steps:
                progress = self._step_and_records(progress, watcher)
                last = progress.step == recipe.steps or self._stalled()
                best = recipe.watch.patience and self._best_step() == progress.step
                if progress.step % recipe.watch.checkpoint_every == 0 or last or best or interrupted.is_set():
                    self._save(progress)
                if interrupted.is_set() and not last:
                    raise KeyboardInterrupt(
                        f"{self.out}: saved at step {progress.step:,}; the same command goes on from there."
                    )
            if progress.step < recipe.steps:
                say(
                    f"stopped at step {progress.step:,} of {recipe.steps:,}: {recipe.watch.patience} validations"
                    f" without a better loss than step {self._best_step():,}'s."
                )
        summary = self._finish(progress, watcher)
        if interrupted.is_set():  # in the last step: the run is finished, but what comes after is not wanted
            raise KeyboardInterrupt(f"{self.out}: finished.")
        return summary

    def _watcher(self, progress: Progress) -> Watcher:
        flops = self._flops_per_token()
        done, tokens = progress.step, self._tokens_a_step
        return Watcher(self.recipe, self.out, self.step, self.tokenizer, done, tokens, flops, self.command)

    def _best_step(self) -> int:
        """The step of the lowest validation loss so far, the earliest of equal ones."""
        return min(self._validations, key=lambda validation: validation[1], default=(0, math.inf))[0]

    def _stalled(self) -> bool:
        """Whether as many validations as the recipe's patience have passed since the best one."""
        patience = self.recipe.watch.patience
        return patience > 0 and sum(step > self._best_step() for step, _ in self._validations) >= patience

    @property
    def _tokens_a_step(self) -> int:
        return self.data.sequences_a_step * self.data.sequence_length

    def _step_and_records(self, progress: Progress, watcher: Watcher) -> Progress:
        """The step after `progress`, with its line of metrics and the validation that is due; where the run stands."""
        start = time.perf_counter()
        with watcher.step_noted(progress.step):
            result = self._take(progress.step)
        seconds = time.perf_counter() - start
        done = progress.step + 1
        line: dict[str, float | str] = {
            "loss": result.loss,
            "gradient_norm": result.gradient_norm,
            "learning_rate": self.recipe.optimizer.learning_rate * self._rate_share(progress.step),
            "tokens": done * self._tokens_a_step,
            "tokens_per_second": self._tokens_a_step / seconds,
        }
        watcher.record(done, line if result.verdict == "taken" else line | {"skipped": result.verdict})
        if done % self.recipe.watch.validate_every == 0 or done == self.recipe.steps:
            self._record_validation(done, watcher)
        watcher.step_ended(done, seconds, result.loss, result.gradient_norm)
        total = time.perf_counter() - self._began
        return Progress(done, progress.training_seconds + seconds, total, self.step.memory)

    def _flops_per_token(self) -> int:
        """Of sequences as long as the data's, which may be shorter than the network's context."""
        return training_flops_per_token(replace(self.recipe.model, context_length=self.data.sequence_length))

    def _diverged(self, what: str) -> Diverged:
        good = checkpoints(self.out / "checkpoints")
        peaks = sorted({group["peak_lr"] for group in self.optimizer.param_groups})
        return Diverged(
            f"{self.out}: {what}. The last good state is {good[-1] if good else 'the start'}; most likely the"
            f" learning rate ({' and '.join(str(rate) for rate in peaks)}) is too high."
            " Give a lower one and --allow-change to go on from there."
        )

    def _record_validation(self, step: int, watcher: Watcher) -> None:
        validation = self._validate()
        watcher.record(step, validation)
        loss = float(validation["val_loss"])
        if not math.isfinite(loss):
            raise self._diverged(f"after step {step} the validation loss is {loss}")
        self._validations.append((step, loss))

    def _save(self, progress: Progress) -> None:
        keep = self.recipe.watch.keep_checkpoints
        folder = self.out / "checkpoints"
        best = self._best_step() if self.recipe.watch.patience else None
        save_checkpoint(folder, self.network, self.optimizer, progress, keep, self.step.averaged, best)

    def _take_best(self, last: int) -> int:
        """Go back to the weights of the best validation, where the recipe has patience; the step they are of."""
        for best, _ in sorted(self._validations, key=lambda validation: validation[1]):
            path = checkpoint_path(self.out / "checkpoints", best)
            if best == last or not self.recipe.watch.patience:
                return last
            if best == 0:
                self._fresh()
            elif not path.exists():  # of a time when the recipe had no patience
                continue
            else:
                try:
                    restore_checkpoint(path, self.network, self.optimizer, self.step.averaged)
                except DamagedCheckpoint as error:
                    say(f"warning: {error} It is kept as {set_aside(path).name}; taking the best but that.")
                    continue
            say(f"the best validation was at step {best:,}; the model has its weights.")
            return best
        return last

    def _finish(self, progress: Progress, watcher: Watcher) -> RunSummary:
        """Write the model folder and, last, the summary that marks the run as finished."""
        lines = read_metrics(self.out)
        validations = [line for line in lines if "val_loss" in line]
        losses = [line["loss"] for line in lines if "loss" in line]
        model_step = self._take_best(progress.step)
        tokens = progress.step * self._tokens_a_step
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
            flops_per_second=speed * self._flops_per_token(),
            training_seconds=progress.training_seconds,
            seconds=progress.seconds,
            model=str(self.out / "model"),
            model_step=model_step,
            model_val_loss=dict(self._validations).get(model_step),
        )
        provenance = {
            "made_by": f"gpt2lab {'finetune' if self.start.described() else 'train'}",
            "start": self.start.described(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": recipe_to_json(self.recipe),
            "tokenizer_sha256": self.tokenizer.sha256,
            **self.data.provenance(),
            "result": asdict(summary),
            "versions": describe_versions(),
            "machine": describe_machine(),
        }
        network = self.start.whole(self.step.result_network, self.out)
        save_model_folder(self.out / "model", network, self.tokenizer, provenance)
        write_json(self.out / "summary.json", asdict(summary))
        watcher.finished()
        return summary


def _tensors(batch: TokenBatch) -> Batch:
    inputs, targets, *documents = torch.from_numpy(batch)
    return inputs, targets, documents[0] if documents else None


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
