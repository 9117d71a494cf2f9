"""How much disk and memory recdb takes for a number of users, items and interactions, and how many servers that needs.

The sizes follow from the layout of PostgreSQL's pages and from the columns of recdb's tables. A test compares them with
a database of 100,000 users. The times are fitted to trainings of 10,000 to 1,000,000 users on two cores.
"""

from dataclasses import dataclass, replace
from math import ceil

from recdb.errors import InvalidInput
from recdb.job.indexes import LINKS, needed_memory
from recdb.job.partitions import USER_VECTOR_FILL
from recdb.learn import Params

PAGE = 8192
HEAP_SPACE = PAGE - 24
LEAF_SPACE = PAGE - 40
INDEX_FILL = 0.9
"""How full the pages of a B-tree index are that grows at its end or was built at once."""
SCATTERED_FILL = 0.67
"""The same where new entries fall between older ones, so that pages split in halves."""
PACKED_ROW = 8
"""Bytes of a row in the index of the users of a packed partition."""
CONTENT_OF_AN_ITEM = 2000
"""Bytes of the title and attributes, their tokens and the vector of the content."""
SPARE_MEMORY = 0.25
"""The share of a server's memory that is left to connections, sorts and the system."""
SPARE_CORES = 0.3
"""The share of the processors that is left to writes, the job and peaks."""

TRAINING_INTERACTIONS = 40_000_000
"""The default of config.training_interactions: with more pairs, a training learns from a sample of the users."""

# Seconds on two cores and bytes, fitted to `recdb refresh --full` with the defaults. 10,000 users with 5,000 items and
# 400,000 interactions took 13 s and 441 MB, 100,000 users with 20,000 items and 4 million 68 s and 1,037 MB. A million
# users with 50,000 items and 40 million, on a machine that other programs shared, took 999 s and 2,398 MB.
TRAINING_START = 5.0
TRAINING_PAIR = 36e-6
TRAINING_INTERACTION = 5e-6
TRAINING_USER = 120e-6
JOB_START = 280e6
JOB_PAIR = 110
JOB_ITEM = 29_000
MOST_DENSE_ITEMS = 20_000
"""Beyond so many items, no dense matrix of items by items is learned from."""

CALL_MS = 2.3
"""The time of recommend() for 50 items with 100,000 users."""
CALL_GROWTH = 0.2
"""The exponent by which it grows with the users."""


def aligned(count: float) -> int:
    """Round a number of bytes up to a multiple of 8, as PostgreSQL stores rows."""
    return ceil(count / 8) * 8


def heap(rows: float, columns: float, fill: float = 1.0) -> float:
    """Return the bytes of a table whose rows have columns of so many bytes."""
    a_page = max(1, int(HEAP_SPACE * fill / (24 + aligned(columns) + 4)))
    return rows / a_page * PAGE


def btree(rows: float, columns: float, fill: float = INDEX_FILL) -> float:
    """Return the bytes of a B-tree index whose entries have columns of so many bytes."""
    return rows * (8 + aligned(columns) + 4) / (LEAF_SPACE * fill) * PAGE * 1.005


def hnsw(rows: float, dimension: int) -> float:
    """Return the bytes of an HNSW index over vectors of half precision.

    An element has 72 bytes beside its vector, and 6 for each link: 2 m in the lowest layer, m in each higher one.
    """
    element = aligned(72 + 8 + 2 * dimension) + 4
    links = aligned(4 + 6 * LINKS * (2 + 1 / (LINKS - 1))) + 4
    return rows * PAGE / max(1, HEAP_SPACE // (element + links))


@dataclass(frozen=True)
class Load:
    """How many users, items and interactions there are, and how wide their rows are."""

    users: int
    items: int
    interactions: int
    pairs: int
    """The number of pairs of a user and an item that the user touched."""
    user_id_bytes: int = 12
    item_id_bytes: int = 12
    metadata_bytes: int = 0
    """Of one interaction, as jsonb."""
    dimension: int = 128
    item_neighbors: int = 170
    """The mean number of items that an item recommends."""
    kept_models: int = 2
    partitioned: bool = False
    """Whether `recdb partition` has packed most months."""


@dataclass(frozen=True)
class Part:
    """A part of the database, with its indexes."""

    name: str
    disk: float
    """Bytes."""
    hot: float
    """The bytes of it that recommend() reads, and that memory should hold."""


def parts(load: Load) -> list[Part]:
    """Return the parts of a database of this size, after a training."""
    user_id, item_id, kind = 1 + load.user_id_bytes, 1 + load.item_id_bytes, 6
    rows, pairs, users, items = load.interactions, load.pairs, load.users, load.items
    metadata = load.metadata_bytes + (1 if load.metadata_bytes < 127 else 4) if load.metadata_bytes else 0
    interaction = aligned(aligned(8 + user_id + item_id + kind) + 8 + metadata) + 8
    table, ids = heap(rows, interaction), btree(rows, 8)
    # The user's items with their times and kinds are in this index: recommend() reads no row of the table.
    of_users = btree(rows, 8 + aligned(user_id) + 8 + item_id + kind, SCATTERED_FILL)
    store, read = table + ids + btree(rows, 8) + of_users, of_users
    if load.partitioned:
        # A packed partition has the rows of a user side by side, and a user has one entry in its index.
        store = table + btree(rows, 8, 1.0) + PACKED_ROW * rows
        read = table + PACKED_ROW * rows
    profile = min(pairs / max(users, 1), Params().profile_limit)
    vector = 8 + 2 * load.dimension
    user_vectors = heap(users, 8 + vector + 2 * (24 + 4 * profile) + 4, USER_VECTOR_FILL / 100)
    user_vectors += btree(users, 8) + hnsw(users, load.dimension)
    links = min(load.item_neighbors, items)
    item_vectors = heap(items, 8 + vector) + 2 * btree(items, 8) + hnsw(items, load.dimension)
    item_neighbors = items * (24 + aligned(8 + 2 * (24 + 4 * links) + 4) + 4) * PAGE / HEAP_SPACE * 1.08
    of_model = item_vectors + item_neighbors
    keys = heap(users, 4 + user_id) + btree(users, 4) + btree(users, user_id)
    catalogue = heap(items, 100 + item_id) + 2 * btree(items, 8 + item_id) + items * CONTENT_OF_AN_ITEM
    of_items = heap(items, 16 + item_id) + btree(items, 4) + btree(items, item_id)
    of_items += heap(items, 28 + item_id) + btree(items, 4) + btree(items, 8 + item_id)
    return [
        Part("interactions", store, read),
        Part("weighted interactions", heap(pairs, 40) + btree(pairs, 8), 0.0),
        Part("user vectors", user_vectors * load.kept_models, user_vectors),
        Part("users", keys, keys),
        Part("item vectors, neighbours", of_model * load.kept_models, of_model),
        Part("items", catalogue + of_items, catalogue + of_items),
    ]


@dataclass(frozen=True)
class Server:
    """A server that a team can rent."""

    memory: float
    """Bytes."""
    cores: int


@dataclass(frozen=True)
class Sizes:
    """The sizes and times of a load, and the servers for it."""

    parts: list[Part]
    training_disk: float
    """The further bytes that a training takes until it has dropped the old version."""
    training_seconds: float
    """The time of a training on two cores."""
    job_memory: float
    """The most bytes that the job's process takes."""
    index_memory: float
    """The bytes in which the server builds the largest HNSW index at full speed."""
    call_ms: float
    """The processor's time of one recommend() of 50 items."""
    cells: int
    """The servers among which users are divided; 1: they are not."""
    copies: int
    """The servers that answer calls for the same users: the primary, and the replicas beside it."""

    @property
    def disk(self) -> float:
        """The bytes of all parts."""
        return sum(part.disk for part in self.parts)

    @property
    def hot(self) -> float:
        """The bytes that recommend() reads."""
        return sum(part.hot for part in self.parts)


def on_one_server(load: Load) -> Sizes:
    """Return the sizes and times of a load on one server."""
    found = parts(load)
    sizes = {part.name: part for part in found}
    learned = min(load.pairs, TRAINING_INTERACTIONS)
    return Sizes(
        found,
        sizes["weighted interactions"].disk + sizes["user vectors"].hot + sizes["item vectors, neighbours"].hot,
        TRAINING_START
        + TRAINING_PAIR * learned
        + TRAINING_INTERACTION * load.interactions
        + TRAINING_USER * load.users,
        JOB_START + JOB_PAIR * learned + JOB_ITEM * min(load.items, MOST_DENSE_ITEMS),
        needed_memory(load.users, load.dimension),
        CALL_MS * (load.users / 100_000) ** CALL_GROWTH,
        1,
        1,
    )


def divide(load: Load, cells: int) -> Load:
    """Return the load of one of so many cells: each has its share of the users, and all items."""
    return replace(
        load,
        users=ceil(load.users / cells),
        interactions=ceil(load.interactions / cells),
        pairs=ceil(load.pairs / cells),
    )


def make_plan(load: Load, server: Server, calls: float) -> Sizes:
    """Return the fewest servers on which a load fits, where `calls` recommend() arrive a second at the peak.

    Where the memory suffices for all users, further servers are replicas; else the users are divided among cells.
    Raises InvalidInput if the items alone are more than the memory of a server.
    """
    room = server.memory * (1 - SPARE_MEMORY)
    least = on_one_server(replace(load, users=1, interactions=1, pairs=1)).hot / (1 - SPARE_MEMORY)
    if least > server.memory:
        raise InvalidInput(
            "the items alone take more memory than the server has", f"take servers of {ceil(least / 1e9):,} GB or more"
        )
    cells = 1
    while on_one_server(divide(load, cells)).hot > room:
        cells += 1 if cells < 16 else cells // 8
    one = on_one_server(divide(load, cells))
    copies = max(1, ceil(calls / cells * one.call_ms / 1000 / (server.cores * (1 - SPARE_CORES))))
    if cells > 1:
        cells, copies = cells * copies, 1
        one = on_one_server(divide(load, cells))
    return replace(one, cells=cells, copies=copies)
