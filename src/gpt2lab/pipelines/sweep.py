"""A sweep: one recipe trained several times, each time with other values of some fields, and which of them was best.

    sweep/
      sweep.json     what was asked for, and each trial's settings and result; written anew after each trial
      trials/        an ordinary run folder for each trial: 001-learning_rate=0.0005/ ...
      report.html    at the end: the ranking, the loss over each swept field, the curves of all trials

A sweep that was stopped goes on with the same command: finished trials stay as they are, the one under way goes on from
its newest checkpoint. The same command with more trials adds them; one that would leave any out is refused.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from gpt2lab.base.errors import BadInput, BadOption, NoSpace, UserError
from gpt2lab.base.files import locked_folder, write_json
from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.base.progress import say
from gpt2lab.pipelines.sweep_report import write_sweep_report
from gpt2lab.pipelines.sweep_results import Sweep, Trial, read_sweep, settings_text
from gpt2lab.pipelines.sweep_trials import Search, Settings, recipe_with, trials_of
from gpt2lab.tokens.shards import read_tokens_info
from gpt2lab.train.data import open_token_folders
from gpt2lab.train.loop import Diverged, train
from gpt2lab.train.recipe import Recipe, changed_keys, recipe_from_json, recipe_to_json
from gpt2lab.train.recipes import paper
from gpt2lab.train.watching.report import write_run_report

RATE = "optimizer.learning_rate"
PAPER_HELD_OUT_SHARE = 0.05
TIMES_AROUND = 4
LONGEST_FOLDER_NAME = 80


def sweep(
    recipe: Recipe,
    tokens: Sequence[Path],
    out: Path,
    over: Sequence[str],
    *,
    search: Search = "grid",
    trials: int | None = None,
    command: str = "gpt2lab sweep",
) -> Sweep:
    """Train `recipe` on the shards in the folders `tokens` once for each setting of the fields `over`, into `out`.

    `over`, `search` and `trials` are those of `sweep_trials.trials_of`; the recipe's seed decides what is drawn. A
    trial that diverges or fails counts as such and the others go on. Goes on where an earlier call stopped. Raises
    BadOption for settings that no recipe has and for another sweep in `out`, BadInput for unusable shards, NoSpace when
    the disk is full.
    """
    settings = trials_of(recipe, over, search, trials)
    folders, _ = open_token_folders(tokens, recipe)
    shards = [[shard.sha256 for shard in folder.info.shards] for folder in folders]
    with locked_folder(out):
        made = _taken_up(Sweep(out, recipe_to_json(recipe), tuple(map(str, tokens)), shards, ()), settings)
        _write(made, command)
        try:
            for index, trial in enumerate(made.trials):
                if trial.over and (trial.status == "diverged" or (out / trial.folder / "summary.json").exists()):
                    continue
                say(f"trial {trial.number} of {len(made.trials)}: {settings_text(trial.settings)}")
                done = _tried(trial, recipe_with(recipe, trial.settings), tokens, out / trial.folder, command)
                made = replace(made, trials=(*made.trials[:index], done, *made.trials[index + 1 :]))
                _write(made, command)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(str(interrupt) or f"{out}: interrupted; the same command goes on.") from None
        write_sweep_report(made, command)
    return made


def tuned_as_in_the_paper(recipe: Recipe, tokens: Sequence[Path], over: Sequence[str]) -> tuple[Recipe, list[str]]:
    """The recipe and fields of a sweep that tunes the learning rate as GPT-2's was (Radford et al. 2019, section 2.3).

    "Tuned for the best perplexity on a 5% held-out sample of WebText": all of the held-out text is validated on, after
    the last step. The schedule is that of the recipe `paper`, as long as the recipe's steps; the rates are those of
    `over`, or from a quarter of the recipe's to four times it. Raises BadOption for a recipe that has no one learning
    rate or no number of steps, BadInput for tokens of which another share is held out.
    """
    if recipe.optimizer.name == "muon":
        raise BadOption(
            f"--tune-learning-rate: {recipe.name} has two learning rates. Sweep --over optimizer.learning_rate=A..B and"
            " optimizer.muon.learning_rate=A..B, or take another --recipe."
        )
    if recipe.minutes:
        raise BadOption("--tune-learning-rate: give --steps, not --minutes; each rate must have as many steps.")
    for path in tokens:
        share = read_tokens_info(path).held_out_share
        if share is None or not math.isclose(share, PAPER_HELD_OUT_SHARE):
            held_out = "an unknown share" if share is None else f"{100 * share:g} %"
            raise BadInput(
                f"{path}: {held_out} of the documents is held out, not the paper's 5 %. Tokenize them again:"
                " gpt2lab tokenize DOCUMENTS --held-out-share 0.05 --out TOKENS"
            )
    like = paper()
    warmup_steps = max(1, round(recipe.steps * like.schedule.warmup_steps / like.steps))
    tuned = replace(
        recipe,
        schedule=replace(like.schedule, warmup_steps=warmup_steps),
        watch=replace(
            recipe.watch, validate_every=recipe.steps, validation_sequences=_all_held_out_sequences(recipe, tokens)
        ),
    )
    if any(text.partition("=")[0].strip().replace("-", "_") == RATE for text in over):
        return tuned, list(over)
    rate = recipe.optimizer.learning_rate
    return tuned, [f"{RATE}={rate / TIMES_AROUND:g}..{rate * TIMES_AROUND:g}", *over]


def _all_held_out_sequences(recipe: Recipe, tokens: Sequence[Path]) -> int:
    """So many validation sequences that each folder's share of them is at least all that it has."""
    folders, _ = open_token_folders(tokens, recipe)
    return max(
        1, *(math.ceil(folder.info.total("val") / recipe.model.context_length / folder.weight) for folder in folders)
    )


def _taken_up(asked: Sweep, settings: Sequence[Settings]) -> Sweep:
    """The sweep with all its trials, those that an earlier call began first. Raises BadOption for another sweep."""
    out = asked.folder
    trials: tuple[Trial, ...] = ()
    if (out / "sweep.json").exists():
        before = read_sweep(out)
        _check_same_sweep(before, asked, settings)
        trials = before.trials
    elif any(not path.name.startswith(".") for path in out.iterdir()):
        raise BadOption(f"{out}: holds something else than a sweep. Choose another --out.")
    there = [trial.settings for trial in trials]
    added = [each for each in settings if each not in there]
    if there and added:
        say(f"{out}: {len(added)} trials more than the {len(there)} that are there.")
    new = tuple(Trial(number, _folder_name(number, each), each) for number, each in enumerate(added, len(there) + 1))
    return replace(asked, trials=trials + new)


def _folder_name(number: int, settings: Settings) -> str:
    words = f"{number:03d}-{settings_text(settings, '=', ',')}"
    return f"trials/{words[:LONGEST_FOLDER_NAME]}"


def _check_same_sweep(before: Sweep, asked: Sweep, settings: Sequence[Settings]) -> None:
    out = asked.folder
    if set(before.fields) != set(settings[0]):
        raise BadOption(
            f"{out}: holds a sweep over {', '.join(before.fields)}, not {', '.join(settings[0])}. Choose another --out."
        )
    # Keys that are newer than the sweep: as they were. What the recipe has for a swept field decides nothing.
    old = recipe_from_json(before.recipe, str(out / "sweep.json"))
    one = settings[0]
    changed = changed_keys(
        recipe_to_json(recipe_with(old, one)), recipe_to_json(recipe_with(recipe_from_json(asked.recipe, ""), one))
    )
    if before.shards != asked.shards:
        changed.append("the tokens")
    if changed:
        raise BadOption(f"{out}: holds a sweep of another recipe; changed: {', '.join(changed)}. Choose another --out.")
    if left_out := [trial for trial in before.trials if trial.settings not in settings]:
        raise BadOption(
            f"{out}: trial {left_out[0].number} there ({settings_text(left_out[0].settings)}) is none of this"
            " command's; trials can only be added to a sweep. Choose another --out."
        )


def _tried(trial: Trial, recipe: Recipe, tokens: Sequence[Path], folder: Path, command: str) -> Trial:
    """The trial with its result: finished, diverged or failed."""
    try:
        summary = train(recipe, tokens, folder, command=command)
        write_run_report(folder, command)
    except NoSpace:
        raise
    except (UserError, RuntimeError, MemoryError) as error:
        if not isinstance(error, UserError) and not _is_out_of_memory(error):
            raise
        failed = replace(trial, status="diverged" if isinstance(error, Diverged) else "failed")
        reason = " ".join(str(error).split()) or "out of memory."
        say(f"trial {trial.number} {failed.status}: {reason}")
        return replace(failed, reason=reason)
    say(f"trial {trial.number}: validation loss {summary.model_loss:.4f}")
    return replace(
        trial,
        status="finished",
        reason="",
        steps=summary.steps,
        val_loss=summary.model_loss,
        val_bits_per_byte=summary.model_bits_per_byte,
        seconds=summary.seconds,
    )


def _is_out_of_memory(error: Exception) -> bool:
    """Whether a larger machine would have done: PyTorch has an error of its own for accelerators only."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _write(made: Sweep, command: str) -> None:
    """Write `sweep.json`."""
    about = {"command": command, "versions": describe_versions(), "machine": describe_machine()}
    write_json(made.folder / "sweep.json", made.to_json() | about)
