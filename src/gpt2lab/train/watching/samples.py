"""What a network under training writes after fixed prompts."""

from dataclasses import dataclass

from gpt2lab.generate.language_model import LanguageModel
from gpt2lab.generate.options import SamplingOptions
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.tokens.bpe import ByteLevelBPE
from gpt2lab.train.recipe import Recipe

SAMPLES_A_PROMPT = 3
TOKENS, TEMPERATURE, TOP_K = 64, 0.8, 40


@dataclass(frozen=True)
class Sample:
    """A continuation of a prompt, and the step after which it was written."""

    step: int
    prompt: str
    text: str


def draw_samples(network: GPT2, tokenizer: ByteLevelBPE, recipe: Recipe, step: int) -> list[Sample]:
    """Continue each of the recipe's prompts a few times, by the same random numbers at every step.

    They have a generator of their own, so training is not changed. Leaves the network in evaluation mode. Raises
    BadInput where its logits are no numbers.
    """
    model = LanguageModel(network, tokenizer)
    options = SamplingOptions(max_tokens=TOKENS, temperature=TEMPERATURE, top_k=TOP_K)
    return [
        Sample(step, prompt, model.generate(prompt, options, seed=number).text)
        for prompt in recipe.watch.prompts
        for number in range(SAMPLES_A_PROMPT)
    ]
