"""Embeddings of texts without a language model: TF-IDF of the words and attributes, and a truncated SVD of it.

    x_it = (1 + ln n_it) * idf_t, in rows of length 1       n_it: how often token t is in the text of item i
    idf_t = 1 + ln(items / items with t)
    x ~ P S V'                                              truncated
    embedding_i = x_i V S^-1/2, at length 1

A token is a word of the title, a word of a long text in the attributes, or an attribute or owner such as
`genres=comedy`. It counts if at least two items have it. Its number is a hash that is the same everywhere.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.basis import decompose
from recdb.learn.matrix import Float32, Progress, inverse_power

MOST_TOKENS = 100_000
"""The tokens that most items have count, at most so many."""

SPECTRUM_EXPONENT = 0.5


@dataclass(frozen=True)
class TextBasis:
    """The tokens that texts are embedded by."""

    tokens: NDArray[np.int64]
    """(tokens,), ascending."""
    weights: Float32
    """(tokens,): idf."""
    vectors: Float32
    """(tokens, dimension): the rows of V S^-1/2."""

    def embed(self, texts: Sequence[Sequence[str]]) -> tuple[Float32, NDArray[np.bool_]]:
        """Return the embeddings (texts, dimension) at length 1, and which texts have one: 0 for one without tokens."""
        vectors = np.asarray(weigh(count_tokens(texts, self.tokens), self.weights) @ self.vectors, dtype=np.float32)
        norms = np.linalg.norm(vectors, axis=1)
        embedded = norms > 1e-6
        vectors = np.divide(vectors, norms[:, None], out=np.zeros_like(vectors), where=embedded[:, None])
        return vectors, embedded


def fit_text_basis(texts: Sequence[Sequence[str]], *, dimension: int, progress: Progress | None = None) -> TextBasis:
    """Learn the basis of a catalogue, whose texts are lists of tokens. Fewer tokens or texts leave numbers at 0."""
    tokens, counts = known_tokens(texts)
    weights = count_weights(counts, len(texts))
    vectors = np.zeros((len(tokens), dimension), dtype=np.float32)
    if len(tokens):
        matrix = weigh(count_tokens(texts, tokens), weights)
        found = decompose(matrix, rank=dimension, user_exponent=0, item_exponent=0, progress=progress)
        right = found.right * inverse_power(found.singular_values, SPECTRUM_EXPONENT)
        vectors[:, : right.shape[1]] = right
    return TextBasis(tokens, weights, vectors)


def known_tokens(texts: Sequence[Sequence[str]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the tokens that count, ascending, and how many texts have each of them."""
    texts_with = Counter(number for text in texts for number in {hash_token(token) for token in text})
    kept = sorted((number for number, count in texts_with.items() if count >= 2), key=lambda n: (-texts_with[n], n))
    tokens = sorted(kept[:MOST_TOKENS])
    return np.array(tokens, dtype=np.int64), np.array([texts_with[token] for token in tokens], dtype=np.int64)


def count_weights(counts: NDArray[np.int64], texts: int) -> Float32:
    """Return idf of tokens that so many of the texts have."""
    return (1 + np.log(max(texts, 1) / np.maximum(counts, 1))).astype(np.float32)


def count_tokens(texts: Sequence[Sequence[str]], tokens: NDArray[np.int64]) -> sparse.csr_array:
    """Count the known tokens of each text: (texts, tokens)."""
    places = {int(token): place for place, token in enumerate(tokens)}
    starts, columns, counts = [0], list[int](), list[int]()
    for text in texts:
        for number, count in Counter(hash_token(token) for token in text).items():
            if number in places:
                columns.append(places[number])
                counts.append(count)
        starts.append(len(columns))
    return sparse.csr_array(
        (np.array(counts, dtype=np.float32), np.array(columns, dtype=np.int64), np.array(starts, dtype=np.int64)),
        shape=(len(texts), len(tokens)),
    )


def weigh(counts: sparse.csr_array, weights: Float32) -> sparse.csr_array:
    """Return x: the counts as TF-IDF, in rows of length 1."""
    row_of = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    data = (1 + np.log(counts.data)) * weights[counts.indices]
    norms = np.sqrt(np.bincount(row_of, weights=data.astype(np.float64) ** 2, minlength=counts.shape[0]))
    scaled = (data / np.maximum(norms, 1e-12)[row_of]).astype(np.float32)
    return sparse.csr_array((scaled, counts.indices, counts.indptr), shape=counts.shape)


def hash_token(token: str) -> int:
    """Return a number for a token: 64 bits with a sign, as PostgreSQL's bigint holds."""
    return int.from_bytes(blake2b(token.encode(errors="surrogatepass"), digest_size=8).digest(), signed=True)
