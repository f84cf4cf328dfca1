"""Where a text is cut into tokens that are given and tokens that are scored."""

from itertools import accumulate
from typing import Literal

from gpt2lab.base.errors import BadInput
from gpt2lab.evaluate.scoring import Pair
from gpt2lab.tokens.bpe import ByteLevelBPE

BorderRule = Literal["exact", "lm-eval"]


def text_pair(
    tokenizer: ByteLevelBPE, context: str | bytes, continuation: str | bytes, rule: BorderRule = "exact"
) -> Pair:
    """The token ids of a context and of the continuation to be scored after it.

    `exact`: the tokens of the whole text where one of them ends at the border, as they would in a document; otherwise
    each side is encoded by itself, so that exactly the continuation's bytes are scored, be they a part of a character.
    `lm-eval`: the rule of lm-evaluation-harness 0.4.13 (`api/model.py`, `_encode_pair`): white space at the context's
    end moves to the continuation, and the tokens of the whole text are cut after as many as the context by itself has,
    be that inside the continuation or before it.

    An empty context is `<|endoftext|>`, after which every training document began. Raises BadInput for a continuation
    without tokens, and for a text that is not Unicode (half a surrogate pair).
    """
    if rule == "lm-eval":
        return _lm_eval_pair(tokenizer, context, continuation)
    given, scored = _as_bytes(context), _as_bytes(continuation)
    if not scored:
        raise BadInput("the continuation is empty: there is nothing to score.")
    if not given:
        return Pair((tokenizer.end_of_text,), tuple(tokenizer.encode_bytes(scored)))
    whole = tokenizer.encode_bytes(given + scored)
    ends = accumulate(len(tokenizer.token_bytes[token]) for token in whole)
    for count, end in enumerate(ends, 1):
        if end == len(given):
            return Pair(tuple(whole[:count]), tuple(whole[count:]))
        if end > len(given):
            break
    return Pair(tuple(tokenizer.encode_bytes(given)), tuple(tokenizer.encode_bytes(scored)))


def _lm_eval_pair(tokenizer: ByteLevelBPE, context: str | bytes, continuation: str | bytes) -> Pair:
    stripped = context.rstrip()
    moved = context[len(stripped) :]
    given = tokenizer.encode_bytes(_as_bytes(stripped))
    whole = _as_bytes(stripped) + _as_bytes(moved) + _as_bytes(continuation)
    scored = tokenizer.encode_bytes(whole)[len(given) :]
    if not scored:
        raise BadInput("the continuation has no token of its own after the context: there is nothing to score.")
    return Pair(tuple(given) or (tokenizer.end_of_text,), tuple(scored))


def _as_bytes(text: str | bytes) -> bytes:
    if isinstance(text, bytes):
        return text
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        raise BadInput(f"{text[:40]!r} is not Unicode: {half} is half a surrogate pair; mend the text.") from None
