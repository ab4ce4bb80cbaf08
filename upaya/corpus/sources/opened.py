"""The sources that there are. One more: declared in upaya/declared/questions.py, its file here, its line below."""

from pathlib import Path

from upaya.corpus.authored import Corpus
from upaya.corpus.sources.corpus import CorpusOfElements
from upaya.corpus.sources.entry import Source
from upaya.corpus.sources.extracted import ExtractedQuestions
from upaya.corpus.sources.files import file_rows
from upaya.corpus.sources.huggingface import huggingface_rows
from upaya.corpus.sources.reasoning_gym import reasoning_gym_rows
from upaya.corpus.sources.rows import RowSource
from upaya.corpus.sources.text import ImportedText
from upaya.declared.questions import (
    AnySource,
    CorpusSource,
    ExtractedSource,
    FileSource,
    HuggingFaceSource,
    ReasoningGymSource,
    TextSource,
)


def opened(name: str, declared: AnySource, data: Path, seed: int) -> Source:
    """A declared source, ready to be read. Raises UserError where there is nothing to read."""
    match declared:
        case CorpusSource():
            return CorpusOfElements(Corpus(data), declared, seed)
        case FileSource():
            return RowSource(name, declared, declared.files, file_rows(declared, data))
        case HuggingFaceSource():
            return RowSource(name, declared, declared.dataset, huggingface_rows(name, declared, data))
        case ReasoningGymSource():
            origin = f"reasoning-gym {declared.version}, {declared.dataset}"
            return RowSource(name, declared, origin, reasoning_gym_rows(name, declared))
        case TextSource():
            return ImportedText(name, declared, data, seed)
        case ExtractedSource():
            return ExtractedQuestions(name, declared, data, seed)
