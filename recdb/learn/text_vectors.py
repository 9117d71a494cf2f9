"""Embeddings of texts without a language model: TF-IDF of the words and attributes, and a truncated SVD of it.

    x_it = idf_t, in rows of length 1                       for each token t of item i
    x ~ P S V'                                              truncated
    embedding_i = x_i V S^-1/2, at length 1

The tokens and their weights are those of recdb/learn/content.py. A token counts once in an item, however often it is in
its text: on two sets with texts, counting repeats ranked worse or the same.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recdb.learn.basis import decompose
from recdb.learn.content_features import idf, weighted
from recdb.learn.matrix import Float32, Progress, inverse_power
from recdb.learn.tokens import TokenSets

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

    def embed(self, texts: TokenSets) -> Float32:
        """Return the embeddings (texts, dimension) at length 1; 0 for a text without tokens."""
        matrix = weighted(texts.matrix(self.tokens), self.weights.astype(np.float64))
        vectors = np.asarray(matrix @ self.vectors, dtype=np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        found: Float32 = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-6)
        return found


def fit_text_basis(texts: TokenSets, *, dimension: int, progress: Progress | None = None) -> TextBasis:
    """Learn the basis of a catalogue. Fewer tokens or texts leave numbers at 0."""
    tokens = texts.common()
    counts = texts.matrix(tokens)
    weights = idf(counts)
    vectors = np.zeros((len(tokens), dimension), dtype=np.float32)
    if len(tokens):
        matrix = weighted(counts, weights)
        found = decompose(matrix, rank=dimension, user_exponent=0, item_exponent=0, progress=progress)
        right = found.right * inverse_power(found.singular_values, SPECTRUM_EXPONENT)
        vectors[:, : right.shape[1]] = right
    return TextBasis(tokens, weights.astype(np.float32), vectors)
