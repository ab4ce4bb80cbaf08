"""Traditional → Simplified conversion with OpenCC, and what it loses.

The configuration is ours (params/opencc.json): OpenCC's own t2s with a small dictionary ahead of it for the classical
terms on which t2s errs. t2s merges characters (後 and 后 both become 后), so the originals are kept beside the
converted text and the report counts how many characters could not be converted back from the character alone.
"""

import json
import tempfile
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Any

import opencc

from upaya.errors import UserError
from upaya.files import read_json
from upaya.paths import OPENCC

# Where OpenCC's Python package keeps its own dictionaries. Its loader searches the configuration's folder only.
DICTIONARIES = Path(opencc.__file__).parent / "clib" / "share" / "opencc"

# The characters of Traditional writing: Big5 holds 后, 後 and 識, and not 识, which is Simplified only.
TRADITIONAL = [c for c in map(chr, range(0x4E00, 0xA000)) if c.encode("big5", "ignore")]


class Converter:
    """Traditional → Simplified by an OpenCC configuration file.

    Raises UserError where the file is no configuration OpenCC accepts.
    """

    def __init__(self, config: Path = OPENCC) -> None:
        resolved = _with_dictionary_paths(read_json(config))
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(resolved, file, ensure_ascii=False)
            file.flush()
            try:
                self._opencc = opencc.OpenCC(file.name)
            except Exception as error:  # the binding raises bare RuntimeErrors and ValueErrors
                raise UserError(f"{config}: OpenCC refuses this configuration ({error})") from None

    def simplify(self, text: str) -> str:
        return str(self._opencc.convert(text))

    @cached_property
    def origins(self) -> dict[str, frozenset[str]]:
        """For each Simplified character, the Traditional characters that become it when converted alone."""
        origins_of: dict[str, set[str]] = defaultdict(set)
        for traditional, simplified in zip(TRADITIONAL, self.simplify("\n".join(TRADITIONAL)).split("\n"), strict=True):
            origins_of[simplified].add(traditional)
        return {simplified: frozenset(origins) for simplified, origins in origins_of.items()}

    def changes(self, traditional: str, simplified: str) -> tuple[int, int]:
        """(characters that changed, of these the ones ambiguous on the way back).

        Both texts have the same length (t2s maps characters one to one); where a phrase did not, the shorter counts.
        """
        changed = [new for old, new in zip(traditional, simplified, strict=False) if old != new]
        return len(changed), sum(len(self.origins.get(new, ())) > 1 for new in changed)


def _with_dictionary_paths(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: str(DICTIONARIES / value) if key == "file" and (DICTIONARIES / str(value)).exists() else
            _with_dictionary_paths(value)
            for key, value in node.items()
        }  # fmt: skip
    if isinstance(node, list):
        return [_with_dictionary_paths(part) for part in node]
    return node
