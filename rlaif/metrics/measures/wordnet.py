"""WordNet's synonyms for METEOR, read by NLTK straight from the database files, without a download."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import Path as ZipPath

from rlaif.metrics.measures.settings import NotAvailable

# Where Debian's package wordnet-base puts the files.
DEBIAN = Path("/usr/share/wordnet")
_PARTS = ("adj", "adv", "noun", "verb")
FILES = tuple(name for part in _PARTS for name in (f"index.{part}", f"data.{part}", f"{part}.exc"))
_LINES_OF_LICENCE = 40
_HOW = "install Debian's wordnet-base, or set score.metrics.wordnet to a folder with WordNet's files"

# The lexicographer files in the order of their numbers, as the manual page lexnames(5WN) lists them. Debian leaves the
# file `lexnames` out, and NLTK's reader does not open a database without it.
_CATEGORIES = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}
_LEXICOGRAPHER_FILES = (
    ("adj", "all pert"),
    ("adv", "all"),
    (
        "noun",
        "Tops act animal artifact attribute body cognition communication event feeling food group location motive "
        "object person phenomenon plant possession process quantity relation shape state substance time",
    ),
    (
        "verb",
        "body change cognition communication competition consumption contact creation emotion motion perception "
        "possession social stative weather",
    ),
    ("adj", "ppl"),
)


def lexnames() -> str:
    """The text of the file `lexnames`: number, name and syntactic category of the 45 lexicographer files."""
    files = [(part, name) for part, names in _LEXICOGRAPHER_FILES for name in names.split()]
    return "".join(f"{place:02d}\t{part}.{name}\t{_CATEGORIES[part]}\n" for place, (part, name) in enumerate(files))


def wordnet_folder(given: Path | None) -> str:
    """The folder with WordNet's files: the given one, else NLTK's own (or its zip file), else Debian's.

    Raises NotAvailable where there is none, or the given one lacks files.
    """
    if given is not None:
        if missing := [name for name in FILES if not (given / name).is_file()]:
            raise NotAvailable(
                f"score.metrics.wordnet={given} is no WordNet folder: it lacks {', '.join(missing)}; {_HOW}"
            )
        return str(given)
    import nltk

    for data in nltk.data.path:
        corpora = Path(data) / "corpora"
        if all((corpora / "wordnet" / name).is_file() for name in FILES):
            return str(corpora / "wordnet")
        if (corpora / "wordnet.zip").is_file():
            return f"{corpora / 'wordnet.zip'}/wordnet/"
    if all((DEBIAN / name).is_file() for name in FILES):
        return str(DEBIAN)
    raise NotAvailable(f"METEOR needs WordNet, which neither NLTK's data nor {DEBIAN} has: {_HOW}")


@dataclass(frozen=True)
class _Name:
    """A word in the place of NLTK's lemma."""

    word: str

    def name(self) -> str:
        return self.word


@dataclass(frozen=True)
class _Sense:
    """All synonyms of a word, in the place of NLTK's synsets."""

    names: tuple[_Name, ...]

    def lemmas(self) -> tuple[_Name, ...]:
        return self.names


class Synonyms:
    """What METEOR asks of a WordNet reader, each word looked up once."""

    def __init__(self, folder: str) -> None:
        self.reader = _reader(folder)
        self._known: dict[str, Sequence[_Sense]] = {}

    def synsets(self, word: str) -> Sequence[_Sense]:
        """All single words that share a synset with the word, as one sense."""
        if word not in self._known:
            found = {name for synset in self.reader.synsets(word) for name in synset.lemma_names() if "_" not in name}
            senses = (_Sense(tuple(map(_Name, sorted(found)))),) if found else ()
            # A word that WordNet has not costs little to look up again, and garbage has no end of them.
            if not senses:
                return senses
            self._known[word] = senses
        return self._known[word]


@cache
def wordnet_version(folder: str) -> str:
    """WordNet's version, which its files say at their top; "of unknown version" where they do not."""
    archive, inside, entry = folder.partition(".zip/")
    place = ZipPath(archive + ".zip", entry) if inside else Path(folder)
    with (place / "data.adj").open(encoding="utf-8") as lines:
        top = "".join(islice(lines, _LINES_OF_LICENCE))
    found = re.search(r"WordNet (\d[\d.]*) Copyright", top)
    return found[1] if found else "of unknown version"


@cache
def synonyms(folder: str) -> Synonyms:
    """The synonyms of a folder of WordNet, read once a process."""
    return Synonyms(folder)


def _reader(folder: str) -> Any:
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Files(WordNetCorpusReader):
        """Reads the files as they lie: with our lexnames, and without mappings to other versions."""

        def open(self, file: str) -> Any:
            if file == "lexnames":
                return StringIO(lexnames())
            # NLTK's own stream decodes line by line, which makes the start half as long again.
            return super().open(file) if ".zip" in folder else open(Path(folder) / file, encoding="utf-8")

        def map_wn(self, version: str = "wordnet") -> None:
            return None

    # NLTK opens only what lies under its data path.
    if folder not in nltk.data.path:
        nltk.data.path.append(folder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The multilingual functions are not available")
        return Files(folder, None)
