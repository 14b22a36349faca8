"""Any tokenizer of the `tokenizers` library: WordPiece, byte-level BPE, Unigram; pretrained, or trained on the spot."""

import json as json_format
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from ornstein.core.config import near
from ornstein.core.optional import need
from ornstein.domains.text.tokenizers import Tokenizer, checked_text, listed, numbered, printable

__all__ = ["SubwordTokenizer"]

Kind = Literal["bpe", "wordpiece", "unigram"]
KINDS: tuple[str, ...] = get_args(Kind)

BOUNDARIES = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[EOS]", "[SEP]", "<end>")
# Marks the inner pieces of a word in a WordPiece trained here: no byte is written as this character.
INNER = "▁"
# Bytes of a run without a space that are cut apart together: WordPiece's time grows with the square of it.
LONGEST_RUN = 64


@dataclass(frozen=True)
class SubwordTokenizer(Tokenizer):
    """A tokenizer of the `tokenizers` library, held as the content of its ``tokenizer.json``.

    Texts are never truncated or padded, whatever the file says, no special tokens are put around them, and special
    tokens that a text spells out (``[SEP]``) are read as ordinary text.

    Args:
        json: content of the ``tokenizer.json``. It is parsed as data; nothing in it is run.
        boundary_token: the token that ends a document, added under the next id where the file has none of that name;
            the first of ``<|endoftext|>  <|end_of_text|>  </s>  <eos>  [EOS]  [SEP]  <end>`` when not given.
        separator_token: the token between source and target, added likewise; the boundary when not given.

    Raises:
        ValueError: no such content, or no boundary token given or found.
        ImportError: tokenizers is not installed.
    """

    json: str = field(repr=False)
    boundary_token: str | None = None
    separator_token: str | None = None

    def __post_init__(self) -> None:
        found = self._library  # parses, and so refuses what is no tokenizer
        if self.boundary_token is None and not any(found.token_to_id(name) is not None for name in BOUNDARIES):
            raise ValueError(
                f"the tokenizer has none of the tokens {', '.join(BOUNDARIES)} to end documents with; give "
                "boundary_token=, a name of your own is added"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.json, self.boundary_token, self.separator_token)

    @classmethod
    def from_pretrained(
        cls,
        place: str | Path,
        *,
        boundary_token: str | None = None,
        separator_token: str | None = None,
        local_files_only: bool = False,
    ) -> "SubwordTokenizer":
        """The tokenizer in a folder, or of a model on the Hugging Face hub.

        A ``tokenizer.json`` in the folder is read by itself; other forms (``vocab.txt``, SentencePiece) and names are
        left to `transformers`, without remote code.

        Args:
            place: the folder, or a name such as ``"bert-base-uncased"``.
            boundary_token, separator_token: as in the constructor; the model's ``eos_token`` (or else ``sep_token``)
                and ``sep_token`` when not given.
            local_files_only: look names up among the files downloaded before, only.

        Raises:
            ValueError: no tokenizer is found there, or one that `tokenizers` cannot hold.
            ImportError: transformers is needed and not installed.
        """
        folder = Path(place)
        if (folder / "tokenizer.json").is_file():
            json, named = _read(folder)
        else:
            json, named = _convert(str(place), local_files_only)
        boundary = boundary_token or named.get("eos_token") or named.get("sep_token")
        return cls(json, boundary, separator_token or named.get("sep_token"))

    @classmethod
    def train(cls, texts: Iterable[str], kind: Kind = "bpe", size: int = 4096) -> "SubwordTokenizer":
        """Train a tokenizer on texts. It works on UTF-8 bytes, so that no text is unknown and every one comes back.

        Args:
            texts: what to learn from.
            kind: ``"bpe"`` (Sennrich et al. 2016, 1508.07909), ``"wordpiece"`` (Schuster and Nakajima 2012) or
                ``"unigram"`` (Kudo 2018, 1804.10959).
            size: number of ids at most, special ones included; 520 at least for ``"wordpiece"``, which has each byte in
                two forms, and 260 for the others.

        Raises:
            ValueError: another kind, too small a size, or a lone surrogate in a text.
        """
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r}: expected 'bpe', 'wordpiece' or 'unigram'{near(str(kind), KINDS)}")
        least = 520 if kind == "wordpiece" else 260
        if size < least:
            raise ValueError(f"size={size}: expected at least {least}, for all bytes to be known by {kind!r}")
        library = need("tokenizers", to="train a tokenizer", extra="text")
        checked = [numbered(number, checked_text, text) for number, text in enumerate(listed(texts))]
        parts = library.pre_tokenizers
        model, trainer = _untrained(library, kind, size)
        tokenizer = library.Tokenizer(model)
        tokenizer.pre_tokenizer = parts.Sequence(
            [
                parts.ByteLevel(add_prefix_space=False),
                parts.Split(library.Regex(f"[\\s\\S]{{1,{LONGEST_RUN}}}"), "isolated"),
            ]
        )
        inner = [library.decoders.Replace(INNER, "")] if kind == "wordpiece" else []
        tokenizer.decoder = library.decoders.Sequence([*inner, library.decoders.ByteLevel()])
        tokenizer.train_from_iterator(checked, trainer, length=len(checked))
        json = tokenizer.to_str()
        if kind == "wordpiece":
            json = _with_inner_bytes(json, parts.ByteLevel.alphabet(), size)
        return cls(json, "<end>")

    @cached_property
    def _library(self) -> Any:
        library = need("tokenizers", to="use a subword tokenizer", extra="text")
        try:
            tokenizer = library.Tokenizer.from_str(self.json)
        except Exception as error:  # the library raises bare Exceptions
            raise ValueError(
                f"json is not the content of a tokenizer.json ({error}); SubwordTokenizer.from_pretrained reads one"
            ) from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        special = [name for name in (self.boundary_token, self.separator_token) if name]
        tokenizer.add_special_tokens(special)  # no change for those that it has
        return tokenizer

    @cached_property
    def size(self) -> int:
        return max(self._library.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def boundary(self) -> int:
        ids = map(self._library.token_to_id, [self.boundary_token] if self.boundary_token else BOUNDARIES)
        return next(i for i in ids if i is not None)

    @cached_property
    def separator(self) -> int:
        return self._library.token_to_id(self.separator_token) if self.separator_token else self.boundary

    @cached_property
    def unknown(self) -> int | None:
        model = json_format.loads(self.json)["model"]
        number = model.get("unk_id")  # Unigram; the others name the token
        return self._library.token_to_id(model["unk_token"]) if model.get("unk_token") else number

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        # What an id adds to a text is seen behind a word: the first id of a text may lose its space.
        before = self.encode("a")
        start = self._decoded(before)
        shown = []
        for i in range(self.size):
            added = self._decoded([*before, i]).removeprefix(start)
            raw = self._library.id_to_token(i) or ""
            shown.append("⏎" if i == self.boundary else raw if "\ufffd" in added or not added else printable(added))
        return tuple(shown)

    def encode_text(self, text: str) -> list[int]:
        return self._library.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        checked = [numbered(number, checked_text, text) for number, text in enumerate(listed(texts))]
        return [found.ids for found in self._library.encode_batch(checked, add_special_tokens=False)]

    def decode_ids(self, ids: list[int]) -> str:
        return self._decoded(ids)

    def _decoded(self, ids: list[int]) -> str:
        # Special tokens are written out: left out, an unknown word would vanish unseen.
        return self._library.decode(ids, skip_special_tokens=False)


def _untrained(library: Any, kind: Kind, size: int) -> tuple[Any, Any]:
    models, trainers = library.models, library.trainers
    common = {
        "vocab_size": size,
        "initial_alphabet": sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        "show_progress": False,
    }
    if kind == "bpe":
        return models.BPE(), trainers.BpeTrainer(special_tokens=["<end>"], **common)
    special = ["<end>", "[UNK]"]
    if kind == "wordpiece":
        model = models.WordPiece(unk_token="[UNK]", continuing_subword_prefix=INNER)
        return model, trainers.WordPieceTrainer(special_tokens=special, continuing_subword_prefix=INNER, **common)
    return models.Unigram(), trainers.UnigramTrainer(special_tokens=special, unk_token="[UNK]", **common)


def _with_inner_bytes(json: str, alphabet: list[str], size: int) -> str:
    """A WordPiece that knows each byte inside a word too; the pieces learned last give way if ``size`` is full."""
    content = json_format.loads(json)
    vocabulary: dict[str, int] = content["model"]["vocab"]
    missing = [INNER + c for c in sorted(alphabet) if INNER + c not in vocabulary]
    kept = sorted(vocabulary, key=lambda name: vocabulary[name])[: size - len(missing)]
    content["model"]["vocab"] = {name: i for i, name in enumerate([*kept, *missing])}
    return json_format.dumps(content, ensure_ascii=False)


def _read(folder: Path) -> tuple[str, dict[str, str]]:
    """The ``tokenizer.json`` of a folder, and the special tokens that the files beside it name."""
    named: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / file).is_file():
            try:
                content = json_format.loads((folder / file).read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{folder / file}: not JSON ({error}); replace or remove the file") from None
            for key in ("eos_token", "sep_token"):
                value = content.get(key) if isinstance(content, dict) else None
                value = value.get("content") if isinstance(value, dict) else value
                if isinstance(value, str):
                    named[key] = value
    return (folder / "tokenizer.json").read_text(encoding="utf-8"), named


def _convert(place: str, local_files_only: bool) -> tuple[str, dict[str, str]]:
    library = need("transformers", to=f"read the tokenizer of {place!r}", extra="text")
    try:
        loaded = library.AutoTokenizer.from_pretrained(
            place, trust_remote_code=False, local_files_only=local_files_only
        )
    except Exception as error:  # whatever its readers and the hub raise
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{place}: no tokenizer is found there ({reason[:200]}); give a folder or a hub name"
        ) from error
    backend = getattr(loaded, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"{place}: {type(loaded).__name__} has no tokenizer.json form; give a fast tokenizer")
    named = {key: getattr(loaded, key) for key in ("eos_token", "sep_token") if getattr(loaded, key, None)}
    return backend.to_str(), named
