"""Data modules for each source of texts.

| class | source |
| --- | --- |
| `PydocData` | the topics of Python's own help: 79 documents, 465,000 characters |
| `E2EData` | the E2E challenge: 4,672 restaurant descriptions with their facts to train on (development part) |
| `ShakespeareData` | tiny Shakespeare: 1.1 million characters of plays |
| `WikiTextData` | WikiText-2: Wikipedia articles |
| `TextData` | text files, JSON lines, CSV, Parquet, lists, frames, Hugging Face data sets |
"""

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ornstein.core.config import near
from ornstein.domains.text.data import Split, TokenData, TokenizerRecipe, split_texts
from ornstein.domains.text.judges import E2E_PHRASES, Phrases, attribute_occurs
from ornstein.domains.text.packing import Packing
from ornstein.domains.text.reading import Kind, Missing, Texts, Unit, read_texts
from ornstein.domains.text.tokenizers import Tokenizer

__all__ = ["E2EData", "PydocData", "ShakespeareData", "TextData", "WikiTextData", "linearise", "parse_meaning"]


class TextData(TokenData):
    """Texts of files, lists or objects with columns; see `read_texts` for the forms.

    Args:
        data: the texts to train on: a path, a list of strings, or an object with columns.
        heldout: the texts held out, in a form of their own; a part ``holdout`` of ``data`` when not given.
        tokenizer, length, packing, attributes, batch_size, num_workers: as in `TokenData`; attributes are columns.
        text: name of the column of documents.
        source: name of the column of sources, for sequence to sequence.
        unit: what one document of a text file is: ``"file"``, ``"line"`` or ``"paragraph"``.
        kind: form of a file; by its suffix when not given.
        missing: ``"refuse"`` rows without a text, or ``"skip"`` and count them.
        encoding: of files.
        holdout: part of the documents to hold out; of a single document, its last part.
        split_seed: which documents.

    Example:
        >>> texts = ["one two", "two three", "three one"]
        >>> data = TextData(texts, tokenizer="word", length=4, packing="pad", holdout=0.34)
        >>> data.tokenizer.symbols
        (' two', ' one', ' three', ' <unk>', '⏎')
        >>> data.train_dataset()[0]
        {'tokens': tensor([1, 0, 4, 4]), 'mask': tensor([ True,  True, False, False])}
    """

    def __init__(
        self,
        data: Any,
        heldout: Any = None,
        tokenizer: str | TokenizerRecipe | Tokenizer = "character",
        length: int = 128,
        packing: str | Packing = "windows",
        attributes: Sequence[str] | Mapping[str, Sequence[str]] = (),
        text: str = "text",
        source: str | None = None,
        unit: Unit | None = None,
        kind: Kind | None = None,
        missing: Missing = "refuse",
        encoding: str = "utf-8",
        holdout: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(tokenizer, length, packing, attributes, batch_size, num_workers)
        self.data, self.heldout, self.text, self.source = data, heldout, text, source
        self.unit, self.kind, self.missing, self.encoding = unit, kind, missing, encoding
        self.holdout, self.split_seed = holdout, split_seed

    def texts(self) -> Split:
        train = self._read(self.data)
        if self.heldout is None:
            return Split(*split_texts(train, self.holdout, self.split_seed))
        return Split(train, self._read(self.heldout))

    def _read(self, data: Any) -> Texts:
        return read_texts(
            data,
            text=self.text,
            source=self.source,
            attributes=list(self._chosen_attributes),
            unit=self.unit,
            kind=self.kind,
            missing=self.missing,
            encoding=self.encoding,
        )


class PydocData(TokenData):
    """The topics of Python's own ``help()``: about 80 documents on the language, at hand wherever Python is.

    Their number and words differ a little from one version of Python to the next. Python Software Foundation Licence.

    Args:
        tokenizer, length, packing, batch_size, num_workers: as in `TokenData`.
        holdout: part of the topics to hold out.
        split_seed: which topics.
    """

    def __init__(
        self,
        tokenizer: str | TokenizerRecipe | Tokenizer = "character",
        length: int = 128,
        packing: str | Packing = "windows",
        holdout: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(tokenizer, length, packing, (), batch_size, num_workers)
        self.holdout, self.split_seed = holdout, split_seed

    def texts(self) -> Split:
        # A module of half a megabyte, which only this needs.
        topics = import_module("pydoc_data.topics").topics
        return Split(*split_texts(Texts([topics[name] for name in sorted(topics)]), self.holdout, self.split_seed))


E2E_ATTRIBUTES = {
    "name": "name",
    "eatType": "eatType",
    "food": "food",
    "priceRange": "priceRange",
    "customer rating": "customer_rating",
    "area": "area",
    "familyFriendly": "familyFriendly",
    "near": "near",
}
E2E_FILES = {"dev": "devset.csv", "train": "trainset.csv", "test": "testset_w_refs.csv"}


def parse_meaning(meaning: str) -> dict[str, str]:
    """The facts of an E2E meaning representation.

    >>> parse_meaning("name[The Eagle], customer rating[5 out of 5]")
    {'name': 'The Eagle', 'customer rating': '5 out of 5'}

    Raises:
        ValueError: another form, a fact twice, or one that E2E does not have.
    """
    pattern = r"\s*([^\[\],]+)\[([^\[\]]*)\]\s*"
    if not re.fullmatch(f"{pattern}(?:,{pattern})*", meaning):
        raise ValueError(f"meaning representation {meaning[:80]!r}: expected 'name[...], food[...]'")
    facts: dict[str, str] = {}
    for name, value in re.findall(pattern, meaning):
        if name not in E2E_ATTRIBUTES:
            raise ValueError(f"meaning representation with the fact {name!r}{near(name, E2E_ATTRIBUTES)}")
        if name in facts:
            raise ValueError(f"meaning representation with the fact {name!r} twice: {meaning[:80]!r}")
        facts[name] = value
    return facts


def linearise(facts: Mapping[str, str]) -> str:
    """Facts as a source for sequence to sequence, so that its words are those of the target.

    >>> linearise({"name": "The Eagle", "customer rating": "5 out of 5"})
    'name: The Eagle, customer rating: 5 out of 5'
    """
    return ", ".join(f"{name}: {value}" for name, value in facts.items())


class E2EData(TokenData):
    """The E2E challenge: descriptions of restaurants, each with the facts it tells (Novikova et al. 2017, 1706.09254).

    The facts are attributes, missing where a description has not the fact: ``name``, ``eatType``, ``food``,
    ``priceRange``, ``customer_rating``, ``area``, ``familyFriendly`` and ``near``. The test file is held out. It has
    values that the development file has not (other names, foods); their number is -1, and ``report("heldout").unseen``
    counts them. Licence of the data: CC BY-SA 4.0.

    Args:
        folder: where ``devset.csv`` (or ``trainset.csv``) and ``testset_w_refs.csv`` are.
        part: what to train on: ``"dev"`` (4,672 descriptions) or ``"train"`` (42,061).
        sequence_to_sequence: give the facts as the source of each description; see `linearise`.
        tokenizer, length, packing, batch_size, num_workers: as in `TokenData`.
        attributes: which attributes to give, of those above.
        stated: leave out attributes that the description does not put in words (`E2E_PHRASES`): writers left out some
            of what they were to tell, and a model learns to do the same.
    """

    def __init__(
        self,
        folder: str,
        part: str = "dev",
        sequence_to_sequence: bool = False,
        tokenizer: str | TokenizerRecipe | Tokenizer = "word",
        length: int = 96,
        packing: str | Packing = "pad",
        attributes: Sequence[str] | Mapping[str, Sequence[str]] = tuple(E2E_ATTRIBUTES.values()),
        batch_size: int = 64,
        num_workers: int = 0,
        stated: bool = True,
    ) -> None:
        super().__init__(tokenizer, length, packing, attributes, batch_size, num_workers)
        known = tuple(E2E_ATTRIBUTES.values())
        if part not in ("dev", "train"):
            raise ValueError(f"part={part!r}: expected 'dev' or 'train'; the test part is held out")
        if wrong := [name for name in attributes if name not in known]:
            raise ValueError(f"attributes hold {wrong[0]!r}{near(wrong[0], known)}; E2E has {', '.join(known)}")
        self.folder, self.part, self.sequence_to_sequence = folder, part, sequence_to_sequence
        self.stated = stated

    def texts(self) -> Split:
        return Split(self._read(self.part), self._read("test"))

    def _read(self, part: str) -> Texts:
        path = Path(self.folder) / E2E_FILES[part]
        read = read_texts(path, text="ref", source="mr")
        try:
            facts = [parse_meaning(meaning) for meaning in read.sources or []]
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        attributes = {ours: [fact.get(theirs) for fact in facts] for theirs, ours in E2E_ATTRIBUTES.items()}
        if self.stated:
            attributes = {
                ours: _stated(read.texts, attributes[ours], E2E_PHRASES.get(theirs))
                for theirs, ours in E2E_ATTRIBUTES.items()
            }
        sources = [linearise(fact) for fact in facts] if self.sequence_to_sequence else None
        return Texts(read.texts, sources, attributes, read.left_out)


def _stated(
    texts: Sequence[str], values: Sequence[str | None], phrases: Mapping[str, Phrases] | None
) -> list[str | None]:
    """The values that their texts put in words, None in the place of the others."""
    some = [i for i, value in enumerate(values) if value is not None]
    said = attribute_occurs([texts[i] for i in some], [str(values[i]) for i in some], phrases=phrases)
    kept = {i for i, told in zip(some, said) if told}
    return [value if i in kept else None for i, value in enumerate(values)]


class ShakespeareData(TokenData):
    """Tiny Shakespeare, one long text: the first 90 % to train on, the last 5 % held out, those between for validation.

    The text is in the public domain; 65 different characters.

    Args:
        file: the text.
        tokenizer, length, packing, batch_size, num_workers: as in `TokenData`.
    """

    def __init__(
        self,
        file: str,
        tokenizer: str | TokenizerRecipe | Tokenizer = "character",
        length: int = 128,
        packing: str | Packing = "windows",
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(tokenizer, length, packing, (), batch_size, num_workers)
        self.file = file

    def texts(self) -> Split:
        whole = read_texts(Path(self.file), unit="file", kind="text").texts[0]
        first, second = int(0.9 * len(whole)), int(0.95 * len(whole))
        return Split(Texts([whole[:first]]), Texts([whole[second:]]), Texts([whole[first:second]]))


class WikiTextData(TokenData):
    """WikiText-2: Wikipedia articles, with rare words put as ``<unk>`` by its makers (Merity et al. 2016, 1609.07843).

    One document an article, from its title on. Nothing is detokenised: texts keep the spaces around punctuation,
    ``@-@`` and ``<unk>``, so figures per word compare with the literature's only where that keeps them too. (The word
    tokenizer drops line ends, which papers count as a word.) The part ``"test"`` is held out. Licence: CC BY-SA 3.0.

    Args:
        folder: where ``valid.txt`` and ``test.txt`` (or ``wiki.valid.tokens`` ...) are.
        part: what to train on: ``"train"``, or ``"valid"`` where there is no more.
        tokenizer, length, packing, batch_size, num_workers: as in `TokenData`.
    """

    def __init__(
        self,
        folder: str,
        part: str = "valid",
        tokenizer: str | TokenizerRecipe | Tokenizer = "word",
        length: int = 128,
        packing: str | Packing = "windows",
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(tokenizer, length, packing, (), batch_size, num_workers)
        if part not in ("train", "valid"):
            raise ValueError(f"part={part!r}: expected 'train' or 'valid'; the test part is held out")
        self.folder, self.part = folder, part

    def texts(self) -> Split:
        return Split(self._read(self.part), self._read("test"))

    def _read(self, part: str) -> Texts:
        names = [f"{part}.txt", f"wiki.{part}.tokens"]
        path = next((Path(self.folder) / name for name in names if (Path(self.folder) / name).is_file()), None)
        if path is None:
            raise FileNotFoundError(f"{self.folder}: holds neither {' nor '.join(names)}; give WikiText-2's folder")
        whole = read_texts(path, unit="file", kind="text").texts[0]
        starts = [match.start() for match in re.finditer(r"(?m)^ = (?!=).*(?<!=) = $", whole)] or [0]
        ends = [*starts[1:], len(whole)]
        # What stands before the first title is a blank line, and stays with the first article.
        return Texts([whole[start:end] for start, end in zip([0, *starts[1:]], ends)])
