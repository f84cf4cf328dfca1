"""ONNX: GPT-2 as one graph for prompts and for single steps, with the names that optimum and transformers.js use.

The graph is built here, operator by operator, on the published tensors: without PyTorch, and with no more than one
tensor in memory. `torch.onnx.export` gives the same logits at the same speed, from more time, memory and packages.

Names of tensors end in their shape:
    B batch   T new tokens   N = B*T   S tokens seen (past + new)   D model width
    H heads   K width of a head   V vocabulary

What the graph takes and gives, for each layer L; S - T is 0 for a prompt:
    input_ids                         int64 [B, T]
    attention_mask                    int64 [B, S]           0 for padding
    position_ids                      int64 [B, T]           counted without padding
    past_key_values.L.key, .value     float [B, H, S - T, K]
    logits                            float32 [B, T, V]
    present.L.key, .value             float [B, H, S, K]
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import whole_file, whole_folder, write_json
from gpt2lab.checkpoints.config_file import config_to_json
from gpt2lab.checkpoints.provenance import PROVENANCE
from gpt2lab.checkpoints.weights import FLOAT_TYPES, Checkpoint, only_finite, raw_bytes, without_padding
from gpt2lab.model.config import GPT2Config

GRAPH, WEIGHTS = "model.onnx", "model.onnx_data"
_OPSET, _IR_VERSION = 20, 9  # the first with Gelu (ONNX 1.15, onnxruntime 1.17)
_ALIGNMENT = 4096  # bytes, as the format advises for files that are mapped into memory
_TOLERANCE = {"float32": 1e-4, "float16": 2e-2}
"""How far logits may be off, as a share of the largest. Rounding gives 3e-6 and 3e-3, a wrong graph about 1."""


def write_onnx(
    folder: Path, checkpoint: Checkpoint, dtype: str = "float32", provenance: Mapping[str, Any] | None = None
) -> float | None:
    """Write model.onnx, its weights (float32 or float16) beside it, config and tokenizer, whole or not at all.

    Rows of the vocabulary without a token are left out, so that none is ever chosen. Where onnxruntime is installed the
    graph is run on a few tokens, with and without cache: returns the largest difference of its logits from our
    network's (None: not run), and raises BadInput where that is more than rounding, and for weights that are not finite
    in `dtype`. Raises BadOption without onnx.
    """
    if find_spec("onnx") is None:
        raise BadOption("exporting to ONNX needs its package: pip install 'gpt2lab[onnx]'.")
    checkpoint = without_padding(checkpoint)
    config, end_of_text = checkpoint.config, checkpoint.required_tokenizer().end_of_text
    # What transformers.js must be told: that the weights stand beside the graph, and the type of the cache.
    script = {"use_external_data_format": True, "kv_cache_dtype": dtype}
    with whole_folder(folder) as partial:
        _write_graph(partial, checkpoint, dtype)
        write_json(
            partial / "config.json", config_to_json(config, end_of_text, dtype) | {"transformers.js_config": script}
        )
        write_json(partial / "generation_config.json", {"bos_token_id": end_of_text, "eos_token_id": end_of_text})
        checkpoint.required_tokenizer().save(partial)
        if provenance is not None:
            write_json(partial / PROVENANCE, provenance)
        if find_spec("onnxruntime") is None:
            return None
        difference, largest = _differences(partial / GRAPH, checkpoint, dtype)
        if not difference <= _TOLERANCE[dtype] * largest:  # not a number counts as off
            raise BadInput(
                f"{checkpoint.where}: its {dtype} logits in onnxruntime differ from ours by up to {difference:.3g}"
                f" (the largest is {largest:.3g}); nothing was written."
            )
    return difference


def _write_graph(folder: Path, checkpoint: Checkpoint, dtype: str) -> None:
    from onnx import TensorProto, helper

    graph = _Graph(checkpoint.config, TensorProto.FLOAT if dtype == "float32" else TensorProto.FLOAT16)
    proto = graph.build()
    with whole_file(folder / WEIGHTS) as handle:
        for name, tensor in only_finite(checkpoint.of_type(dtype)).tensors.items():
            handle.write(bytes(-handle.tell() % _ALIGNMENT))
            entry = TensorProto(name=name, dims=tensor.shape, data_type=graph.float_type)
            entry.data_location = TensorProto.EXTERNAL
            length = tensor.size * FLOAT_TYPES[dtype].itemsize
            for key, value in (("location", WEIGHTS), ("offset", handle.tell()), ("length", length)):
                entry.external_data.add(key=key, value=str(value))
            proto.initializer.append(entry)
            handle.write(raw_bytes(tensor.read()))
    model = helper.make_model(
        proto, producer_name="gpt2lab", ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", _OPSET)]
    )
    with whole_file(folder / GRAPH) as handle:
        handle.write(model.SerializeToString())


class _Graph:
    """GPT-2's operators. A method appends its own and returns the name of what they give."""

    def __init__(self, config: GPT2Config, float_type: int) -> None:
        self.config = config
        self.float_type = float_type
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def build(self) -> Any:
        """The whole graph; of the weights only their names."""
        from onnx import TensorProto, helper

        config = self.config
        layers = range(config.n_layer)
        shape_BT = self.add("shape_BT", "Shape", "input_ids")
        self.integers("width", -1, config.n_embd)
        self.integers("heads", config.n_head, config.n_embd // config.n_head)
        self.integers("vocabulary", config.vocab_size)
        self.add("shape_BTHK", "Concat", shape_BT, "heads", axis=0)
        shape_BTV = self.add("shape_BTV", "Concat", shape_BT, "vocabulary", axis=0)
        self.visible_tokens()
        tokens_BTD = self.add("tokens", "Gather", "wte.weight", "input_ids")
        positions_BTD = self.add("positions", "Gather", "wpe.weight", "position_ids")
        x_BTD = self.add("embedded", "Add", tokens_BTD, positions_BTD)
        x_ND = self.add("embedded_ND", "Reshape", x_BTD, "width")
        for layer in layers:
            x_ND = self.layer(layer, x_ND)
        x_ND = self.norm("ln_f", x_ND)
        head = "wte.weight" if config.tie_word_embeddings else "lm_head.weight"
        logits_NV = self.add("logits_NV", "Gemm", x_ND, head, transB=1)
        logits_BTV = self.add("logits_BTV", "Reshape", logits_NV, shape_BTV)
        self.add("logits", "Cast", logits_BTV, to=TensorProto.FLOAT)

        def named(name: str, float_type: int, *shape: int | str) -> Any:
            return helper.make_tensor_value_info(name, float_type, ["batch_size", *shape])

        def caches(prefix: str, length: str) -> list[Any]:
            shape = (config.n_head, length, config.n_embd // config.n_head)
            return [named(f"{prefix}.{n}.{part}", self.float_type, *shape) for n in layers for part in ("key", "value")]

        new, past, seen = "sequence_length", "past_sequence_length", "past_sequence_length + sequence_length"
        inputs = [
            named("input_ids", TensorProto.INT64, new),
            named("attention_mask", TensorProto.INT64, seen),
            named("position_ids", TensorProto.INT64, new),
            *caches("past_key_values", past),
        ]
        outputs = [named("logits", TensorProto.FLOAT, new, config.vocab_size), *caches("present", seen)]
        return helper.make_graph(self.nodes, "gpt2", inputs, outputs, self.constants)

    def visible_tokens(self) -> None:
        """Which tokens each new one may see: those up to itself that are no padding, bool [B, 1, T, S]."""
        from onnx import TensorProto

        self.integers("scalar")
        zero = self.integers("zero", 0)
        one = self.integers("one", 1)
        middle = self.integers("middle", 1, 2)
        new = self.add("new", "Shape", "input_ids", start=1)
        seen = self.add("seen", "Shape", "attention_mask", start=1)
        past = self.add("past", "Sub", seen, new)
        start, first, end, step = (
            self.add(f"{name}_scalar", "Reshape", name, "scalar") for name in (zero, past, seen, one)
        )
        keys_S = self.add("keys", "Range", start, end, step)
        queries_T = self.add("queries", "Range", first, end, step)
        queries_T1 = self.add("queries_T1", "Unsqueeze", queries_T, one)
        causal_TS = self.add("causal", "LessOrEqual", keys_S, queries_T1)
        real_BS = self.add("real", "Cast", "attention_mask", to=TensorProto.BOOL)
        real_B11S = self.add("real_B11S", "Unsqueeze", real_BS, middle)
        self.add("visible", "And", causal_TS, real_B11S)
        # Put in the place of a score, not added to it: a padding token sees nothing, and its scores must stay finite.
        lowest = np.finfo(np.float32 if self.float_type == TensorProto.FLOAT else np.float16).min
        self.number("unseen", float(lowest))
        self.number("scale", (self.config.n_embd // self.config.n_head) ** -0.5)

    def layer(self, number: int, x_ND: str) -> str:
        """Attention and MLP, each behind a layer norm, each added to the residual stream [N, D]."""
        name = f"h.{number}"
        attended_ND = self.attention(number, self.norm(f"{name}.ln_1", x_ND))
        x_ND = self.add(f"{name}.attn.sum", "Add", x_ND, attended_ND)
        inner_NF = self.linear(f"{name}.mlp.c_fc", self.norm(f"{name}.ln_2", x_ND))
        approximate = "tanh" if self.config.activation_function == "gelu_new" else "none"
        active_NF = self.add(f"{name}.mlp.gelu", "Gelu", inner_NF, approximate=approximate)
        return self.add(f"{name}.mlp.sum", "Add", x_ND, self.linear(f"{name}.mlp.c_proj", active_NF))

    def attention(self, number: int, x_ND: str) -> str:
        """Causal self-attention over the cache and the new tokens, [N, D] to [N, D]."""
        name = f"h.{number}.attn"
        qkv_ND = self.linear(f"{name}.c_attn", x_ND)
        self.split(f"{name}.split", qkv_ND, [f"{name}.{part}" for part in "qkv"])
        new = {}
        for part in "qkv":
            new_BTHK = self.add(f"{name}.{part}_BTHK", "Reshape", f"{name}.{part}", "shape_BTHK")
            new[part] = self.add(f"{name}.{part}_BHTK", "Transpose", new_BTHK, perm=[0, 2, 1, 3])
        k_BHSK = self.add(f"present.{number}.key", "Concat", f"past_key_values.{number}.key", new["k"], axis=2)
        v_BHSK = self.add(f"present.{number}.value", "Concat", f"past_key_values.{number}.value", new["v"], axis=2)
        q_BHTK = self.add(f"{name}.q_scaled", "Mul", new["q"], "scale")
        k_BHKS = self.add(f"{name}.k_BHKS", "Transpose", k_BHSK, perm=[0, 1, 3, 2])
        scores_BHTS = self.add(f"{name}.scores", "MatMul", q_BHTK, k_BHKS)
        masked_BHTS = self.add(f"{name}.masked", "Where", "visible", scores_BHTS, "unseen")
        shares_BHTS = self.add(f"{name}.shares", "Softmax", masked_BHTS, axis=-1)
        y_BHTK = self.add(f"{name}.y", "MatMul", shares_BHTS, v_BHSK)
        y_BTHK = self.add(f"{name}.y_BTHK", "Transpose", y_BHTK, perm=[0, 2, 1, 3])
        y_ND = self.add(f"{name}.y_ND", "Reshape", y_BTHK, "width")
        return self.linear(f"{name}.c_proj", y_ND)

    def norm(self, name: str, x_ND: str) -> str:
        """The layer norm whose weights have this name."""
        weights = (f"{name}.weight", f"{name}.bias")
        epsilon = self.config.layer_norm_epsilon
        return self.add(f"{name}.out", "LayerNormalization", x_ND, *weights, axis=-1, epsilon=epsilon)

    def linear(self, name: str, x_NI: str) -> str:
        """The matrix [in, out] and bias whose weights have this name, [N, in] to [N, out]."""
        return self.add(f"{name}.out", "Gemm", x_NI, f"{name}.weight", f"{name}.bias")

    def add(self, output: str, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator with one output."""
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def split(self, name: str, whole: str, parts: list[str]) -> None:
        """Append an operator that cuts the last dimension into equal parts."""
        from onnx import helper

        self.nodes.append(helper.make_node("Split", [whole], parts, name=name, axis=-1, num_outputs=len(parts)))

    def integers(self, name: str, *values: int) -> str:
        """A constant int64 [number of values]."""
        from onnx import TensorProto, helper

        self.constants.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def number(self, name: str, value: float) -> str:
        """A constant of the weights' type, without dimensions."""
        from onnx import helper

        self.constants.append(helper.make_tensor(name, self.float_type, [], [value]))
        return name


def _differences(graph: Path, checkpoint: Checkpoint, dtype: str) -> tuple[float, float]:
    """The largest difference of the graph's logits from our network's on a few tokens, and the largest logit.

    The tokens are given at once, and as a prompt beside a shorter, padded one with single steps after it.
    """
    import onnxruntime
    import torch

    from gpt2lab.checkpoints.torch_network import network_of

    config = checkpoint.config
    length = min(16, config.context_length)
    padding, prompt = length // 4, max(1, length // 2)
    tokens_BT = np.random.default_rng(6).integers(0, config.vocab_size, (2, length))
    mask_BT = np.ones_like(tokens_BT)
    mask_BT[1, :padding] = 0
    network = network_of(checkpoint)
    with torch.inference_mode():
        wanted_TV = network(torch.from_numpy(tokens_BT[:1]))[0].numpy()
        wanted_padded_TV = network(torch.from_numpy(tokens_BT[1:, padding:]))[0].numpy()

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_prepacking", "1")  # it would copy every matrix
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    at_once_BTV, _ = _run(session, config, dtype, tokens_BT[:1], mask_BT[:1], None)
    steps, cache = [], None
    for start, end in ((0, prompt), *((n, n + 1) for n in range(prompt, length))):
        logits_BTV, cache = _run(session, config, dtype, tokens_BT[:, start:end], mask_BT[:, :end], cache)
        steps.append(logits_BTV)
    stepped_BTV = np.concatenate(steps, axis=1)
    differences = (
        at_once_BTV[0] - wanted_TV,
        stepped_BTV[0] - wanted_TV,
        stepped_BTV[1, padding:] - wanted_padded_TV,
    )
    return float(max(np.abs(d).max() for d in differences)), float(np.abs(wanted_TV).max())


def _run(
    session: Any,
    config: GPT2Config,
    dtype: str,
    tokens_BT: NDArray[np.int64],
    mask_BS: NDArray[np.int64],
    cache: list[NDArray[Any]] | None,
) -> tuple[NDArray[np.float32], list[NDArray[Any]]]:
    """Logits [B, T, V] and the cache after these tokens; `mask_BS` is of all tokens so far."""
    batch, new = tokens_BT.shape
    if cache is None:
        empty = np.zeros((batch, config.n_head, 0, config.n_embd // config.n_head), FLOAT_TYPES[dtype])
        cache = [empty] * (2 * config.n_layer)
    positions_BS = np.maximum(mask_BS.cumsum(axis=1) - 1, 0)
    fed = {"input_ids": tokens_BT, "attention_mask": mask_BS, "position_ids": positions_BS[:, -new:]}
    names = [value.name for value in session.get_inputs()[len(fed) :]]
    logits_BTV, *cache = session.run(None, fed | dict(zip(names, cache, strict=True)))
    return logits_BTV, cache
