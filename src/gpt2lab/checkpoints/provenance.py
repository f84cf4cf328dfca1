"""`provenance.json`: what a folder that we made says of its making, and which folders may be replaced."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import read_json, sha256_of
from gpt2lab.checkpoints.weights import Checkpoint

PROVENANCE = "provenance.json"

_WRITTEN = re.compile(
    r"model(-[0-9]{5}-of-[0-9]{5})?\.safetensors|model\.safetensors\.index\.json|quantized\.safetensors"
    r"|model\.bin|model\.onnx(_data)?|(config|generation_config|tokenizer|tokenizer_config|vocab|vocabulary|provenance|quality)\.json"
    r"|merges\.txt|tokenizer\.tiktoken|gpt2_tokenizer\.bin"
)
"""All that `import`, `export` and `quantize` write into folders."""


def read_provenance(folder: Path) -> dict[str, Any]:
    """What a model folder says of its making; empty where it says nothing (a folder from elsewhere)."""
    file = folder / PROVENANCE
    if not file.exists():
        return {}
    try:
        found = writable_json(read_json(file))
    except RecursionError:
        raise BadInput(f"{file}: nested too deeply; mend or remove it.") from None
    if not isinstance(found, dict):
        raise BadInput(f"{file}: not an object of JSON; remove the file if it is not gpt2lab's.")
    return found


def writable_json(value: Any) -> Any:
    """What was read from JSON, without what can't be written as JSON again: NaN, halves of characters."""
    text = json.dumps(value, ensure_ascii=False, indent=0)  # with an indent, as `write_json` has: it nests less deeply
    return json.loads(text.encode(errors="replace"), parse_constant=str)


def describe_making(made_by: str, source: str | Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """The provenance of what is made of a checkpoint: its source with the SHA-256 of each file, notes, versions."""
    from gpt2lab.base.machine import describe_versions  # imports psutil and more, which only writing needs

    making = {
        "made_by": made_by,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": str(source),
        "format": checkpoint.format,
        "files": {file.name: sha256_of(file) for file in checkpoint.files},
        "notes": list(checkpoint.notes),
        "tokenizer_sha256": checkpoint.required_tokenizer().sha256,
        "source_provenance": dict(checkpoint.provenance),
        "versions": describe_versions(),
    }
    return dict(writable_json(making))  # names of files need not be UTF-8


def check_replaceable(out: Path, made_by: str) -> None:
    """Raise BadOption where a folder `out` would replace something that `made_by` did not make itself."""
    if out.name in ("", ".."):
        raise BadOption(f"--out {out}: name the folder that is to be made, such as {out / 'model'}.")
    if out.exists() and not out.is_dir():
        raise BadOption(f"--out {out}: is a file; name a folder.")
    held = sorted(file.name for file in out.iterdir()) if out.exists() else []
    if held and read_provenance(out).get("made_by") != made_by:
        raise BadOption(f"--out {out}: holds something that `{made_by}` did not make; name another folder.")
    if strange := [name for name in held if not _WRITTEN.fullmatch(name)]:
        raise BadOption(
            f"--out {out}: would be replaced, and {strange[0]} in it is not from `{made_by}`; move it or name another"
            " folder."
        )
