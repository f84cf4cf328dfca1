"""enwik8 (Mahoney 2006): the first 10^8 bytes of English Wikipedia's dump of 3 March 2006, markup and all."""

from pathlib import Path

from gpt2lab.base.errors import BadInput
from gpt2lab.datasets.evaluation_sets import DataSource, EvaluationSet, PublishedFile
from gpt2lab.datasets.texts import open_bytes

BYTES = 100_000_000
TEST_SHARE = 20
"""The last twentieth is the test set, the one before it for validation, as everyone splits it."""
ENWIK8 = PublishedFile(
    name="enwik8",
    patterns=("enwik8",),
    sha256="2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8",
    url="http://mattmahoney.net/dc/enwik8.zip",
    licence="GFDL and CC BY-SA",
    member="enwik8",
    archive_sha256="547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
)


def read_enwik8(source: DataSource) -> EvaluationSet[bytes]:
    """One item: the last 5,000,000 bytes; of a changed file its last twentieth. It may begin inside a character."""
    found = source.file(ENWIK8)
    with open_bytes(Path(found.path)) as handle:
        content = handle.read(BYTES + 1)
    found = source.check_count(found, len(content), BYTES, "bytes")
    if len(content) < TEST_SHARE:
        raise BadInput(f"{found.path}: {len(content)} bytes are too few to test on; get {ENWIK8.url}.")
    return EvaluationSet((content[-(len(content) // TEST_SHARE) :],), (found,))
