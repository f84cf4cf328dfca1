"""Prints the peak memory in bytes of de-duplicating so many documents, a tenth of them near duplicates.

python find_memory.py FOLDER DOCUMENTS
"""

import random
import sys
from pathlib import Path

from tests.peak_memory import peak_memory_bytes
from tests.webtext.duplicates.stage_files import write_stage_file

from gpt2lab.webtext.duplicates.find import find_duplicates

ROWS_A_FILE = 500


def main() -> None:
    folder, documents = Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir()
    chooser = random.Random(1)
    vocabulary = [f"w{n}" for n in range(30_000)]
    files, text = [], ""
    for start in range(0, documents, ROWS_A_FILE):
        rows = []
        for n in range(start, start + ROWS_A_FILE):
            text = text + " more" if n % 10 == 1 else " ".join(chooser.choices(vocabulary, k=300))
            rows.append({"id": f"{n:024x}", "url_key": f"http://example.org/{n}", "text": text})
        files.append(write_stage_file(folder / f"{start}.parquet", rows))
    decisions = find_duplicates(files, folder / "scratch", 0.8)
    assert decisions.counts() == {"near duplicate": documents // 10}
    print(peak_memory_bytes())


if __name__ == "__main__":
    main()
