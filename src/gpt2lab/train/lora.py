"""LoRA (Hu et al. 2021) through peft: two thin matrices beside each large one are trained, and nothing else.

peft changes our network in place; the adapter is written as peft writes one of `transformers.GPT2LMHeadModel`, whose
matrices are the other way round (Conv1D), which is what `fan_in_fan_out` says.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gpt2lab.base.errors import BadOption
from gpt2lab.base.files import whole_folder
from gpt2lab.checkpoints.tensor_files import save_tensors
from gpt2lab.model.gpt2 import GPT2
from gpt2lab.train.start import ModelWeights

ADAPTER = "adapter"
TARGETS = ["c_attn", "c_proj", "c_fc"]
"""All matrices of the layers."""
_OURS, _PEFTS = ".default.", "."
_PREFIX = "base_model.model.transformer."


@dataclass(frozen=True)
class LoraOptions:
    """The size of an adapter. What it adds to a matrix is scaled by alpha / rank."""

    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise BadOption(f"--lora-rank {self.rank}: must be at least 1.")
        if not 0 < self.alpha < float("inf"):
            raise BadOption(f"--lora-alpha {self.alpha}: must be above 0 and finite.")


class LoraWeights:
    """A model whose weights stay, with an adapter that is trained. Raises BadOption where peft is not installed."""

    def __init__(self, base: ModelWeights, options: LoraOptions, seed: int) -> None:
        self.base, self.options, self.seed = base, options, seed
        _peft()

    def described(self) -> dict[str, Any]:
        """The model and the adapter's size."""
        return self.base.described() | {"lora": asdict(self.options)}

    def network(self) -> GPT2:
        """The model with an adapter that changes nothing yet: of its two factors one is drawn, the other 0."""
        network = self.base.network()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            _peft().inject_adapter_in_model(self._config(fan_in_fan_out=False), network)
        return network

    def whole(self, trained: GPT2, out: Path) -> GPT2:
        """The model with the adapter added to its weights; writes `out/adapter`, which peft loads."""
        with whole_folder(out / ADAPTER) as folder:
            config = self._config(fan_in_fan_out=True)
            config.base_model_name_or_path, config.inference_mode = self.base.name, True
            config.save_pretrained(str(folder))
            save_tensors(folder / "adapter_model.safetensors", adapter_tensors(trained))
        return merged(trained)

    def _config(self, *, fan_in_fan_out: bool) -> Any:
        return _peft().LoraConfig(
            r=self.options.rank,
            lora_alpha=self.options.alpha,
            target_modules=list(TARGETS),
            fan_in_fan_out=fan_in_fan_out,
            task_type="CAUSAL_LM",
        )


def adapter_tensors(network: GPT2) -> dict[str, torch.Tensor]:
    """The adapter under the names that peft gives one of `transformers.GPT2LMHeadModel`."""
    return {
        _PREFIX + name.replace(_OURS, _PEFTS): parameter.detach().cpu().contiguous()
        for name, parameter in network.named_parameters()
        if ".lora_" in name
    }


@torch.no_grad()
def merged(network: GPT2) -> GPT2:
    """A plain network that gives the logits of one with an adapter."""
    weights = {
        name.replace(".base_layer", ""): parameter.detach().clone()
        for name, parameter in network.state_dict().items()
        if ".lora_" not in name
    }
    for name, module in network.named_modules():
        if hasattr(module, "get_delta_weight"):
            weights[f"{name}.weight"] += module.get_delta_weight("default")
    plain = GPT2(network.config)
    plain.load_state_dict(weights)
    return plain


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise BadOption("--lora needs peft, which is not installed: pip install 'gpt2lab[lora]'.") from None
    return peft
