"""`provenance.json`: what a folder that we made says of its making."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import read_json, sha256_of
from gpt2lab.base.machine import describe_versions
from gpt2lab.checkpoints.weights import Checkpoint

PROVENANCE = "provenance.json"


def read_provenance(folder: Path) -> dict[str, Any]:
    """What a model folder says of its making; empty where it says nothing (a folder from elsewhere)."""
    file = folder / PROVENANCE
    found = read_json(file) if file.exists() else {}
    if not isinstance(found, dict):
        raise BadInput(f"{file}: not an object of JSON; remove the file if it is not gpt2lab's.")
    return found


def describe_making(made_by: str, source: str | Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """The provenance of what is made of a checkpoint: its source with the SHA-256 of each file, notes, versions."""
    return {
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


def check_replaceable(out: Path, made_by: str) -> None:
    """Raise BadOption where a folder `out` would replace something that `made_by` did not make itself."""
    if out.is_dir() and any(out.iterdir()) and read_provenance(out).get("made_by") != made_by:
        raise BadOption(f"--out {out}: holds something that `{made_by}` did not make; name another folder.")
    if out.is_file():
        raise BadOption(f"--out {out}: is a file; name a folder.")
