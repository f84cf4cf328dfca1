"""One contestant of `benchmarks.evaluate` in a process of its own; the last line it prints is JSON.

`python -P benchmarks/evaluate_contestants.py NAME MODEL REQUESTS BATCH [ITEMS]`: NAME is gpt2lab or lm-eval, each in
its own environment; REQUESTS a JSON file, a list of [context, continuation] pairs or of texts to be scored whole; ITEMS
how many of them. The time is that of scoring, tokenization included; loading the model is not in it.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"


def main() -> None:
    """Run the contestant that the command line names."""
    name, model, requests, batch, *items = sys.argv[1:]
    asked = json.loads(Path(requests).read_text())[: int(items[0]) if items else None]
    print(json.dumps(gpt2lab(model, asked) if name == "gpt2lab" else lm_eval(model, asked, int(batch))))


def gpt2lab(source: str, asked: list[Any]) -> dict[str, Any]:
    """Ours, with the time that it predicts for itself."""
    from gpt2lab.evaluate.language_modelling import windows
    from gpt2lab.evaluate.scoring import predict_seconds, score
    from gpt2lab.evaluate.text_pairs import text_pair
    from gpt2lab.generate.language_model import LanguageModel

    model = LanguageModel.load(source)
    tokenizer, length = model.tokenizer, model.network.config.context_length
    start = time.perf_counter()
    if isinstance(asked[0], str):
        texts = ([tokenizer.end_of_text, *tokenizer.encode(text)] for text in asked)
        pairs = [pair for ids in texts for pair in windows(ids, length, length)]
    else:
        pairs = [text_pair(tokenizer, context, continuation, "lm-eval") for context, continuation in asked]
    encoded = time.perf_counter()
    predicted = predict_seconds(model.network, [pairs])
    begun = time.perf_counter()
    total = sum(scores.total for scores in score(model.network, pairs))
    scored = time.perf_counter() - begun
    return {"seconds": encoded - start + scored, "predicted": predicted, "scored": scored, "total": total}


def lm_eval(source: str, asked: list[Any], batch: int) -> dict[str, Any]:
    """lm-evaluation-harness's Hugging Face backend."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=source, device="cpu", dtype="float32", batch_size=batch)
    whole = isinstance(asked[0], str)
    kind = "loglikelihood_rolling" if whole else "loglikelihood"
    instances = [Instance(kind, {}, (each,) if whole else tuple(each), number) for number, each in enumerate(asked)]
    start = time.perf_counter()
    if whole:
        total = sum(model.loglikelihood_rolling(instances, disable_tqdm=True))
    else:
        total = sum(nats for nats, _ in model.loglikelihood(instances, disable_tqdm=True))
    return {"seconds": time.perf_counter() - start, "total": total}


if __name__ == "__main__":
    main()
