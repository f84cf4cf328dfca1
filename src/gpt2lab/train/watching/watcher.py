"""All that looks on while a run goes on: progress line, records, norms, samples, the live report."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from gpt2lab.base.errors import BadInput
from gpt2lab.base.progress import progress_bar, say
from gpt2lab.tokens.bpe import ByteLevelBPE
from gpt2lab.train.recipe import Recipe
from gpt2lab.train.step import TrainingStep
from gpt2lab.train.watching.gemm_peak import gemm_peak_of_run
from gpt2lab.train.watching.metrics import MetricsLog
from gpt2lab.train.watching.norms import noted_norms
from gpt2lab.train.watching.pace import Pace
from gpt2lab.train.watching.report import LiveReport
from gpt2lab.train.watching.samples import draw_samples
from gpt2lab.train.watching.tracker import open_tracker


class Watcher(AbstractContextManager["Watcher"]):
    """Looks on from step `done` of a run to its end. Nothing that it does changes the run's bits.

    Of each step: the step itself within `step_noted`, `record`, what is due of validation, `step_ended`.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        step: TrainingStep,
        tokenizer: ByteLevelBPE,
        done: int,
        tokens_a_step: int,
        flops_per_token: int,
        command: str,
    ) -> None:
        self._recipe, self._step, self._tokenizer = recipe, step, tokenizer
        self._tokens_a_step = tokens_a_step
        self._pace = Pace(tokens_a_step, recipe.watch.validate_every)
        self._peak_tokens_per_second = gemm_peak_of_run(run, recipe, step.device) / flops_per_token
        self._report = LiveReport(run, command)
        self._norms: dict[str, float] = {}
        self._val_words = ""
        self._news = False
        with ExitStack() as opened:
            self._log = opened.enter_context(MetricsLog(run, done, opened.enter_context(open_tracker(recipe, run))))
            bar = progress_bar("train", total=recipe.steps * tokens_a_step, unit="tokens")
            self._bar = opened.enter_context(bar)
            self._bar.skip(done * tokens_a_step)
            self._opened = opened.pop_all()

    @contextmanager
    def step_noted(self, done: int) -> Iterator[None]:
        """Around the step after `done` of them: its norms are taken where they are due."""
        self._norms = {}
        every = self._recipe.watch.norms_every
        if not every or (done + 1) % every:
            yield
            return
        with noted_norms(self._step.network, self._step.optimizer) as self._norms:
            yield

    def record(self, done: int, line: dict[str, float | str]) -> None:
        """Record what is known of step `done`: its training, or a validation."""
        if "tokens_per_second" in line:
            line = line | {"of_gemm_peak": float(line["tokens_per_second"]) / self._peak_tokens_per_second}
        self._log.record(done, line)
        if "val_loss" in line:
            self._val_words = f", val loss {line['val_loss']:.3f}"
            self._news = True

    def step_ended(self, done: int, seconds: float, loss: float, gradient_norm: float) -> None:
        """Step `done` and its validation are over: norms, samples, progress and report, as far as they are due."""
        if self._norms:
            self._log.record(done, dict(_before_clipping(self._norms, gradient_norm, self._recipe)))
        every = self._recipe.watch.sample_every
        if every and (done % every == 0 or done == self._recipe.steps):
            self._sample(done)
        self._pace.step_ended(seconds)
        speed, left = self._pace.tokens_per_second, self._pace.seconds_left(self._recipe.steps - done)
        self._bar.pace(speed, left)
        share = speed / self._peak_tokens_per_second
        self._bar.advance(self._tokens_a_step, f"{share:.0%} of GEMM peak, loss {loss:.3f}{self._val_words}")
        self._report.refresh(left, self._news)
        self._news = False

    def _sample(self, done: int) -> None:
        try:
            samples = draw_samples(self._step.result_network, self._tokenizer, self._recipe, done)
        except BadInput as error:  # the next step says what became of the weights
            say(f"no samples after step {done:,}: {error}")
            return
        self._log.record_samples(samples)
        self._news = True

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._opened.close()
        if error is not None:
            self._report.close(stopped=str(error) or type(error).__name__)

    def finished(self) -> None:
        """The summary is written: so is the last report, where there was one before."""
        self._report.close(stopped=None)


def _before_clipping(norms: dict[str, float], gradient_norm: float, recipe: Recipe) -> dict[str, float]:
    """Norms of the gradient as it was, which clipping scaled down; `gradient_norm` is that of all of it."""
    clip = recipe.optimizer.clip_norm
    factor = max(1.0, (gradient_norm + 1e-6) / clip) if clip else 1.0  # torch.nn.utils.clip_grad_norm_ has the 1e-6
    return {name: norm * factor if name.startswith("gradient_norm/") else norm for name, norm in norms.items()}
