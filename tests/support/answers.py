"""What every reading function gives: for comparing two databases that hold the same."""

import psycopg
from support.data import column

# Sums that recdb does not round depend on the order of their terms, in the last digits: the plans differ.
READERS = {
    "recommend": "select * from recommend(%s, 20, fallback => 'popular')",
    "recommend, list": "select * from recommend(%s, 20, '<>')",
    "recommend_for_items": "select * from recdb.recommend_for_items(array("
    "select item_id from recdb.item_key order by item_key limit 3))",
    "recommend_batch": "select * from recdb.recommend_batch(array[%s]) order by 1, 2",
    "popular": "select * from recdb.popular()",
    "audience": "select * from recdb.audience((select min(item_id) from recdb.item_key), 5)",
    "popular, a segment": 'select * from recdb.popular(20, segment => \'{"country": "de"}\')',
    "neighbors": "select * from recdb.neighbors(%s)",
    "similar_items": "select * from recdb.similar_items((select min(item_id) from recdb.item_key))",
    "explain": """
        select r.item_id, e.source, e.because_id, round(e.contribution::numeric, 12)
        from recommend(%s, 3) r, recdb.explain(%s, r.item_id) e order by 1, 2, 3""",
    "explain_neighbors": """
        select r.item_id, e.neighbor_id, e.similarity, round(e.contribution::numeric, 12)
        from recommend(%s, 3) r, recdb.explain_neighbors(%s, r.item_id) e order by 1, 2""",
    "models": "select label, active, state, params from recdb.models order by 1",
    "vectors": "select * from recdb.user_vectors order by 1, 2",
}
WEIGHTS = "select user_id, item_id, round(weight::numeric, 12), last_at from recdb.user_item_weights order by 1, 2"


def answers(db: psycopg.Connection) -> dict[str, list[object]]:
    """What each reading function gives for ten users."""
    users = column(db.execute("select user_id from recdb.user_key order by 1 limit 10"))
    return {
        name: [db.execute(query, [user] * query.count("%s")).fetchall() for user in users]
        for name, query in READERS.items()
    }
