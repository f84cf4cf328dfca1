"""CTranslate2's model folders: model.bin, config.json, vocabulary.json, and our tokenizer files beside them.

They are made by CTranslate2's own converter framework, which lays out, quantizes and writes; what it is given here is
a description of the network whose tensors are read one at a time, when it asks for them. (Its converter for
transformers' models gives the same folder, but needs transformers and PyTorch and holds the whole model.)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.errors import BadOption
from gpt2lab.base.files import whole_folder, write_json
from gpt2lab.checkpoints.provenance import PROVENANCE
from gpt2lab.checkpoints.weights import FLOAT_TYPES, TRANSPOSED, Checkpoint, StoredTensor, only_finite, without_padding
from gpt2lab.tokens.bpe import END_OF_TEXT


def write_ctranslate2(
    folder: Path, checkpoint: Checkpoint, quantization: str = "float32", provenance: Mapping[str, Any] | None = None
) -> None:
    """Write a folder that `ctranslate2.Generator` opens, whole or not at all.

    `quantization` is one of CTranslate2's types of weights, such as float32, float16 or int8 (of the matrices alone).
    Rows of the vocabulary without a token are left out: CTranslate2 works on tokens' names, and a row without one must
    never be chosen. Quantized matrices are held until they are written. Raises BadOption without
    CTranslate2, BadInput for weights that are not finite in their new type.
    """
    try:
        from ctranslate2.converters import Converter
    except ImportError:
        raise BadOption("exporting to CTranslate2 needs its package: pip install 'gpt2lab[ctranslate2]'.") from None

    checkpoint = without_padding(checkpoint)
    if quantization in FLOAT_TYPES:
        checkpoint = checkpoint.of_type(quantization)
    checkpoint = only_finite(checkpoint)

    class GPT2Converter(Converter):  # type: ignore[misc]
        def _load(self) -> Any:
            return _specification(checkpoint)

    with whole_folder(folder) as partial:
        GPT2Converter().convert(str(partial), quantization=quantization, force=True)
        checkpoint.required_tokenizer().save(partial)
        if provenance is not None:
            write_json(partial / PROVENANCE, provenance)


def _specification(checkpoint: Checkpoint) -> Any:
    """CTranslate2's description of the network, its weights not yet read."""
    from ctranslate2.specs import TransformerDecoderModelSpec
    from ctranslate2.specs.common_spec import Activation

    config, tokenizer = checkpoint.config, checkpoint.required_tokenizer()
    spec = TransformerDecoderModelSpec.from_config(
        config.n_layer,
        config.n_head,
        pre_norm=True,
        activation=Activation.GELUTanh if config.activation_function == "gelu_new" else Activation.GELU,
    )
    spec.config.layer_norm_epsilon = config.layer_norm_epsilon
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = END_OF_TEXT
    spec.register_vocabulary([*tokenizer.symbols, END_OF_TEXT])

    variables = {name: _variable(name, tensor) for name, tensor in checkpoint.tensors.items()}
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = variables["wte.weight"]
    decoder.position_encodings.encodings = variables["wpe.weight"]
    # The same object under two names is stored once.
    decoder.projection.weight = variables.get("lm_head.weight", variables["wte.weight"])
    norms, linears = {"ln_f": decoder.layer_norm}, {}
    for number, layer in enumerate(decoder.layer):
        norms[f"h.{number}.ln_1"] = layer.self_attention.layer_norm
        linears[f"h.{number}.attn.c_attn"] = layer.self_attention.linear[0]
        linears[f"h.{number}.attn.c_proj"] = layer.self_attention.linear[1]
        norms[f"h.{number}.ln_2"] = layer.ffn.layer_norm
        linears[f"h.{number}.mlp.c_fc"] = layer.ffn.linear_0
        linears[f"h.{number}.mlp.c_proj"] = layer.ffn.linear_1
    for name, norm in norms.items():
        norm.gamma, norm.beta = variables[f"{name}.weight"], variables[f"{name}.bias"]
    for name, linear in linears.items():
        linear.weight, linear.bias = variables[f"{name}.weight"], variables[f"{name}.bias"]
    return spec


def _variable(name: str, tensor: StoredTensor) -> Any:
    """A tensor as CTranslate2's framework wants it: matrices as [out, in], read anew each time it is asked for."""
    from ctranslate2.specs.model_spec import Variable

    class StoredVariable(Variable):  # type: ignore[misc]
        def __init__(self, stored: StoredTensor) -> None:
            self.stored = stored

        @property
        def shape(self) -> list[int]:
            return list(self.stored.shape)

        @property
        def dtype(self) -> str:
            return self.stored.float_type

        def numpy(self) -> NDArray[Any]:
            return np.array(self.stored.read(), order="C")  # a copy: quantization works in place

        def num_bytes(self) -> int:
            return self.stored.size * FLOAT_TYPES[self.dtype].itemsize

        def to_bytes(self) -> bytes:
            return self.stored.read().tobytes()

        def _to(self, dtype: str) -> "StoredVariable":
            return StoredVariable(self.stored.of_type(dtype))

        def _equal(self, other: "StoredVariable") -> bool:
            return self is other

    return StoredVariable(tensor.transposed() if name.endswith(TRANSPOSED) else tensor)
