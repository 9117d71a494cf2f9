"""Embeddings of texts by a language model from a local folder, where a library for it is installed.

recdb asks the network for nothing unless `download` is set: a name of a model means the copy in the local cache.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recdb.distribution import install_command
from recdb.errors import InvalidInput
from recdb.learn.matrix import Float32

DEFAULT_MODELS = ("minishlab/potion-base-8M", "sentence-transformers/all-MiniLM-L6-v2")
"""The models that are used unasked, the first one whose copy is here."""


@dataclass(frozen=True)
class LanguageModel:
    """A model that embeds texts; the same text always gets the same embedding."""

    package: str
    source: str
    """The model's folder, or its name on the Hugging Face hub."""
    dimension: int
    encode: Callable[[Sequence[str]], Any]

    @property
    def name(self) -> str:
        """The name by which its embeddings are known, wherever its folder is."""
        return model_name(self.source)

    def embed(self, texts: Sequence[str]) -> Float32:
        """Return the embeddings (texts, dimension) at length 1; 0 for a text that the model knows nothing of."""
        vectors = np.asarray(self.encode(texts), dtype=np.float32).reshape(len(texts), self.dimension)
        vectors = np.where(np.isfinite(vectors), vectors, np.float32(0))
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        return vectors


def find_language_model() -> LanguageModel | None:
    """Return the first of DEFAULT_MODELS that is installed with its library; None if there is none."""
    for name in DEFAULT_MODELS:
        try:
            return load_language_model(name)
        except InvalidInput:
            continue
    return None


def load_language_model(name: str, *, download: bool = False) -> LanguageModel:
    """Load a model from a folder, or by its name from the local cache; with `download`, from the Hugging Face hub.

    Raises InvalidInput if no library is installed that can, or if the model is not here.
    """
    folder = find_folder(name, download)
    problems = []
    hint = install_command("embed")
    for read in (read_static, read_transformer):
        try:
            return read(name, str(folder))
        except ImportError as error:
            problems.append(str(error))
        except Exception as error:  # the libraries raise errors of all kinds for a folder that is not theirs
            problems.append(f"{type(error).__name__}: {error}")
            hint = "name the folder of a model of model2vec, or of sentence-transformers if you installed that"
    raise InvalidInput(f"{name} cannot be loaded: {'; '.join(problems)}"[:500], hint)


def find_folder(name: str, download: bool) -> Path:
    """Return the folder of a model."""
    if Path(name).is_dir():
        return Path(name)
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415  it may not be installed

        return Path(snapshot_download(name, local_files_only=not download))
    except ImportError as error:
        raise InvalidInput(
            f"there is no folder {name}, and no library for models is installed", install_command("embed")
        ) from error
    except Exception as error:
        hint = "name the folder of a model, or let recdb download it: recdb embed --model NAME --download"
        raise InvalidInput(f"there is no model {name} on this machine", hint) from error


def read_static(name: str, folder: str) -> LanguageModel:
    """Read a model of model2vec."""
    from model2vec import StaticModel  # noqa: PLC0415  it may not be installed

    model = StaticModel.from_pretrained(folder)
    return LanguageModel("model2vec", full_name(name), int(model.dim), lambda texts: model.encode(list(texts)))


def read_transformer(name: str, folder: str) -> LanguageModel:
    """Read a model of sentence-transformers."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415  it may not be installed

    model = SentenceTransformer(folder, local_files_only=True)
    width = int(model.get_sentence_embedding_dimension() or 0)
    return LanguageModel(
        "sentence-transformers",
        full_name(name),
        width,
        lambda texts: model.encode(list(texts), show_progress_bar=False),
    )


def full_name(name: str) -> str:
    """Return the full path of a folder, or the name of a model."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def model_name(source: str) -> str:
    """Return the name of a model: of a folder the last part, so that it may be moved."""
    return Path(source).name if Path(source).is_absolute() else source


def describe_item(title: str | None, attributes: Any, owner: str | None = None) -> str:
    """Return an item as one text, which a language model reads: `Toy Story. genres: comedy, drama; year: 1995`."""
    named: dict[str, list[str]] = {}
    for name, value in walk_values(attributes):
        named.setdefault(name, []).append(value)
    if owner is not None:
        named["owner"] = [owner]
    said = "; ".join(f"{name}: {', '.join(values)}" for name, values in named.items())
    return ". ".join(part for part in (title or "", said) if part)


def walk_values(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield each value in a JSON document with the names that lead to it, joined by dots."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from walk_values(part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for part in value:
            yield from walk_values(part, path)
    elif isinstance(value, bool):
        yield path, str(value).lower()
    elif isinstance(value, float) and value.is_integer():
        yield path, str(int(value))
    elif value is not None and str(value).strip():
        yield path, str(value).strip().casefold()
