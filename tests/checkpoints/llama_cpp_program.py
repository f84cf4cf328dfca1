"""Runs in llama.cpp's own environment: what it makes of texts and tokens with a GGUF file.

`python llama_cpp_program.py MODEL.gguf`; standard input is JSON: `texts` to tokenize, `tokens` to give logits for,
`prompt` (tokens) to continue greedily by `steps`, `kv` (0 float32, 1 float16, llama.cpp's usual choice). Writes
MODEL.gguf.npy, the logits [T, V], and prints JSON: `ids` of each text, `greedy` tokens, `bos`, `eos`, `size`.
"""

import json
import sys

import numpy as np
from llama_cpp import Llama

path = sys.argv[1]
asked = json.load(sys.stdin)
model = Llama(
    path,
    n_ctx=0,
    n_threads=1,
    n_threads_batch=1,
    logits_all=True,
    type_k=asked["kv"],
    type_v=asked["kv"],
    verbose=False,
)
ids = [model.tokenize(text.encode(), add_bos=False, special=False) for text in asked["texts"]]
model.eval(asked["tokens"])
np.save(f"{path}.npy", model.scores[: len(asked["tokens"])])
model.reset()
model.eval(asked["prompt"])
greedy: list[int] = []
for _ in range(asked["steps"]):
    greedy.append(int(np.argmax(model.scores[model.n_tokens - 1])))
    model.eval(greedy[-1:])
found = {"ids": ids, "greedy": greedy, "bos": model.token_bos(), "eos": model.token_eos(), "size": model.n_vocab()}
print(json.dumps(found))
