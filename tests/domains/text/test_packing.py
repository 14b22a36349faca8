"""Rows of tokens: where each token of the documents goes, and that each goes somewhere."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ornstein.domains.text.packing import Pack, Pad, TokenRows, TokenWindows, Windows, join, pack, packing_of, pad

B = 9  # the boundary
some_documents = st.lists(st.lists(st.integers(0, 8), max_size=12), min_size=1, max_size=8)


def stream_by_hand(documents):
    tokens, numbers = [], []
    for number, document in enumerate(documents):
        if number:
            tokens.append(B)
            numbers.append(number - 1)
        tokens += document
        numbers += [number] * len(document)
    return tokens, numbers


def rows_by_hand(documents, length):
    """Rows of (token, document), short at the end."""
    pairs = list(zip(*stream_by_hand(documents)))
    return [pairs[i : i + length] for i in range(0, len(pairs), length)]


# ---- packing ----


@settings(max_examples=200, deadline=None)
@given(some_documents)
def test_documents_join_with_boundaries_between(documents):
    stream, numbers = join(documents, B)
    assert (stream.tolist(), numbers.tolist()) == stream_by_hand(documents)
    assert stream.dtype == torch.int32


@settings(max_examples=200, deadline=None)
@given(some_documents, st.integers(1, 7))
def test_packed_rows_hold_every_token_once(documents, length):
    assume(documents != [[]])
    rows = pack(documents, length, B, segments=True)
    expected = rows_by_hand(documents, length)
    assert rows.tokens.shape == (len(expected), length)
    mask = torch.ones_like(rows.tokens, dtype=torch.bool) if rows.mask is None else rows.mask
    full = all(len(row) == length for row in expected)
    assert (rows.mask is None) == full
    for row, tokens, real, segments in zip(expected, rows.tokens, mask, rows.segments):
        assert tokens[real].tolist() == [token for token, _ in row]
        assert segments[real].tolist() == [number - row[0][1] for _, number in row]
        assert real.tolist() == [i < len(row) for i in range(length)]
        assert set(tokens[~real].tolist()) <= {B}
        assert set(segments[~real].tolist()) <= {-1}
    assert rows.sizes().tolist() == [len(row) for row in expected]
    assert rows.dropped == 0


def test_a_rest_is_dropped_only_when_asked_and_counted():
    rows = pack([[1, 2, 3], [4, 5]], 4, B, rest="drop")
    assert rows.tokens.tolist() == [[1, 2, 3, B]]
    assert (rows.mask, rows.dropped) == (None, 2)
    assert pack([[1, 2, 3, 4]], 2, B, rest="drop").dropped == 0
    with pytest.raises(ValueError, match="no full row"):
        pack([[1]], 4, B, rest="drop")


# ---- padding ----


@settings(max_examples=200, deadline=None)
@given(some_documents, st.integers(1, 7))
def test_split_documents_come_back(documents, length):
    rows = pad(documents, length, B, long="split")
    mask = torch.ones_like(rows.tokens, dtype=torch.bool) if rows.mask is None else rows.mask
    again = [[] for _ in documents]
    for tokens, real, number in zip(rows.tokens, mask, rows.documents):
        again[number] += tokens[real].tolist()
        assert set(tokens[~real].tolist()) <= {B}
        assert real.tolist() == sorted(real.tolist(), reverse=True)
    assert again == documents
    assert len(rows) == sum(max(1, -(-len(document) // length)) for document in documents)


def test_padding_refuses_what_does_not_fit():
    assert pad([[1], [2, 3]], 2, B).tokens.tolist() == [[1, B], [2, 3]]
    assert pad([[1, 2], [3, 4]], 2, B).mask is None
    with pytest.raises(
        ValueError, match=r"document 1 has 3 tokens, more than length=2, as 2 of 3 do.*length=5.*'split'"
    ):
        pad([[1], [1, 2, 3], [1] * 5], 2, B)


def test_filled_rows_are_tokens_to_their_end():
    rows = pad([[1], [2, 3, 4]], 3, B, fill=True)
    assert rows.tokens.tolist() == [[1, B, B], [2, 3, 4]]
    assert rows.mask is None
    assert rows.sizes().tolist() == [3, 3]


def test_sources_are_given_with_the_separator():
    rows = pad([[1, 2], [3]], 5, B, sources=[[4], [5, 6]], separator=8)
    assert rows.tokens.tolist() == [[4, 8, 1, 2, B], [5, 6, 8, 3, B]]
    assert rows.given.tolist() == [[True, True, False, False, False], [True, True, True, False, False]]
    assert rows.mask.tolist() == [[True] * 4 + [False]] * 2
    assert rows.sizes().tolist() == [2, 1]
    with pytest.raises(ValueError, match="document 1 has 4 tokens with its source"):
        pad([[1], [3]], 3, B, sources=[[4], [5, 6]], separator=8)
    for wrong in ({"sources": [[4]], "separator": 8}, {"sources": [[4], [5]]}):
        with pytest.raises(ValueError, match="expected as many sources"):
            pad([[1], [3]], 5, B, **wrong)
    with pytest.raises(ValueError, match="long='refuse'"):
        pad([[1]], 5, B, sources=[[4]], separator=8, long="split")


# ---- windows ----


def test_windows_start_everywhere_alike():
    windows = TokenWindows(torch.arange(50, dtype=torch.int32), 8)
    assert (windows.starts, len(windows)) == (43, 6)
    draws = torch.cat([windows.__getitems__(range(6))["tokens"] for _ in range(4000)])
    assert torch.equal(draws - draws[:, :1], torch.arange(8).expand(len(draws), 8))
    counts = draws[:, 0].bincount(minlength=43).double()
    # Each start is a stratum's share of 24,000 draws: a spread of at most that of 24,000 free draws.
    share = len(draws) / 43
    assert len(counts) == 43
    assert (counts - share).abs().max() < 5 * share**0.5
    # One epoch covers the text: window i starts in the i-th sixth of the starts.
    for epoch in draws.reshape(-1, 6, 8)[:100]:
        assert torch.all((epoch[:, 0] + 1) * 6 > torch.arange(6) * 43)
        assert torch.all(epoch[:, 0] * 6 < (torch.arange(6) + 1) * 43)


def test_windows_are_a_function_of_the_seed_and_need_enough_text():
    windows = TokenWindows(torch.arange(100, dtype=torch.int32), 10)
    torch.manual_seed(3)
    first = windows.__getitems__([1, 5])["tokens"]
    torch.manual_seed(3)
    assert torch.equal(windows.__getitems__([1, 5])["tokens"], first)
    assert windows[4]["tokens"].shape == (10,)
    whole = TokenWindows(torch.arange(10, dtype=torch.int32), 10)
    assert len(whole) == 1
    assert whole[0]["tokens"].tolist() == list(range(10))
    with pytest.raises(ValueError, match="10 tokens, less than a window of length=11"):
        TokenWindows(torch.arange(10, dtype=torch.int32), 11)


# ---- data sets and choices ----


def test_a_batch_is_the_rows_asked_for():
    rows = TokenRows(
        torch.arange(12, dtype=torch.int32).reshape(4, 3),
        mask=torch.ones(4, 3, dtype=torch.bool),
        segments=torch.zeros(4, 3, dtype=torch.int32),
        given=torch.zeros(4, 3, dtype=torch.bool),
        conditions={"kind": torch.tensor([3, 2, 1, 0])},
    )
    batch = rows.__getitems__([2, 0])
    assert batch["tokens"].tolist() == [[6, 7, 8], [0, 1, 2]]
    assert batch["kind"].tolist() == [1, 3]
    assert {name: value.dtype for name, value in batch.items()} == {
        "tokens": torch.int64,
        "mask": torch.bool,
        "segments": torch.int64,
        "given": torch.bool,
        "kind": torch.int64,
    }
    assert torch.equal(rows[2]["tokens"], batch["tokens"][0])
    assert set(TokenRows(rows.tokens).__getitems__([1])) == {"tokens"}


def test_packings_by_name():
    assert [packing_of(name) for name in ("windows", "pack", "pad")] == [Windows(), Pack(), Pad()]
    chosen = Pack(segments=True)
    assert packing_of(chosen) is chosen
    with pytest.raises(ValueError, match="did you mean 'pack'"):
        packing_of("packed")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pack([], 3, B), "documents is empty"),
        (lambda: pad([], 3, B), "documents is empty"),
        (lambda: pack([[]], 3, B), "no token"),
        (lambda: pack([[1]], 0, B), "length must be at least 1"),
        (lambda: pad([[1]], 0, B), "length must be at least 1"),
        (lambda: pack([[1]], 1, B, rest="keep"), "rest='keep'"),  # type: ignore[arg-type]
        (lambda: pad([[1]], 1, B, long="cut"), "long='cut'"),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_million_tokens_are_packed_at_once():
    documents = [np.arange(n % 50, dtype=np.int32) for n in range(40_000)]
    total = sum(map(len, documents)) + len(documents) - 1
    rows = pack(documents, 128, B)
    assert int(rows.sizes().sum()) == total
    padded = pad(documents, 50, B)
    assert int(padded.sizes().sum()) == total - len(documents) + 1
