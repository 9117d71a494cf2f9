-- Ids of any type, for all other functions that take ids; 61_any_ids_lists has the rules.
--
-- Of two ids one may be text and the other not. So there are two forms: for a first id that is no text, with any
-- second one, and for a text with an id that is no text.


-- recdb.neighbors for an id of any type.
--   parameters  user_id  of any type; others as neighbors()
--   returns, reads, errors  as neighbors()
create or replace function recdb.neighbors(user_id anynonarray, k bigint default 20)
returns table (neighbor_id text, similarity double precision, shared_items bigint)
language sql stable rows 20
as $$
    select r.neighbor_id, r.similarity, r.shared_items
    from recdb.neighbors(recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2) r
$$;
comment on function recdb.neighbors(anynonarray, bigint) is
    'neighbors() for a user id that is no text, such as a bigint or a uuid.';


-- recdb.similar_items for an id of any type.
--   parameters  item_id  of any type; others as similar_items()
--   returns, reads, errors  as similar_items()
create or replace function recdb.similar_items(item_id anynonarray, k bigint default 20)
returns table (neighbor_id text, similarity double precision)
language sql stable rows 20
as $$
    select r.neighbor_id, r.similarity
    from recdb.similar_items(recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2) r
$$;
comment on function recdb.similar_items(anynonarray, bigint) is
    'similar_items() for an item id that is no text, such as a bigint or a uuid.';


-- recdb.audience for an id of any type.
--   parameters  item_id  of any type; others as audience()
--   returns, reads, errors  as audience()
create or replace function recdb.audience(item_id anynonarray, k bigint default 50)
returns table (user_id text, score double precision)
language sql stable rows 50
as $$
    select r.user_id, r.score
    from recdb.audience(recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)), $2) r
$$;
comment on function recdb.audience(anynonarray, bigint) is
    'audience() for an item id that is no text, such as a bigint or a uuid.';


-- recdb.explain for a first id that is no text.
--   parameters  user_id, item_id  of any type; others as explain()
--   returns, reads, writes, errors  as explain()
create or replace function recdb.explain(
    user_id anynonarray, item_id anycompatiblenonarray, model text default null,
    scenario text default null
)
returns table (source text, because_id text, contribution double precision)
language sql stable rows 10
as $$
    select r.source, r.because_id, r.contribution
    from recdb.explain(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)),
        recdb.id_text($2::pg_catalog.text, pg_catalog.pg_typeof($2)), $3, $4) r
$$;
comment on function recdb.explain(anynonarray, anycompatiblenonarray, text, text) is
    'explain() for a first id that is no text, such as a bigint or a uuid; the second is of any type.';


-- recdb.explain for a text as first id.
--   parameters  item_id  of any type; others as explain()
--   returns, reads, writes, errors  as explain()
create or replace function recdb.explain(
    user_id text, item_id anynonarray, model text default null,
    scenario text default null
)
returns table (source text, because_id text, contribution double precision)
language sql stable rows 10
as $$
    select r.source, r.because_id, r.contribution
    from recdb.explain(
        $1,
        recdb.id_text($2::pg_catalog.text, pg_catalog.pg_typeof($2)), $3, $4) r
$$;
comment on function recdb.explain(text, anynonarray, text, text) is
    'explain() for a text as first id, and a second one that is no text.';


-- recdb.explain_neighbors for a first id that is no text.
--   parameters  user_id, item_id  of any type; others as explain_neighbors()
--   returns, reads, writes, errors  as explain_neighbors()
create or replace function recdb.explain_neighbors(
    user_id anynonarray, item_id anycompatiblenonarray, model text default null
)
returns table (neighbor_id text, similarity double precision, contribution double precision)
language sql stable rows 10
as $$
    select r.neighbor_id, r.similarity, r.contribution
    from recdb.explain_neighbors(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)),
        recdb.id_text($2::pg_catalog.text, pg_catalog.pg_typeof($2)), $3) r
$$;
comment on function recdb.explain_neighbors(anynonarray, anycompatiblenonarray, text) is
    'explain_neighbors() for a first id that is no text, such as a bigint or a uuid; the second is of any type.';


-- recdb.explain_neighbors for a text as first id.
--   parameters  item_id  of any type; others as explain_neighbors()
--   returns, reads, writes, errors  as explain_neighbors()
create or replace function recdb.explain_neighbors(
    user_id text, item_id anynonarray, model text default null
)
returns table (neighbor_id text, similarity double precision, contribution double precision)
language sql stable rows 10
as $$
    select r.neighbor_id, r.similarity, r.contribution
    from recdb.explain_neighbors(
        $1,
        recdb.id_text($2::pg_catalog.text, pg_catalog.pg_typeof($2)), $3) r
$$;
comment on function recdb.explain_neighbors(text, anynonarray, text) is
    'explain_neighbors() for a text as first id, and a second one that is no text.';


-- recdb.track for a first id that is no text.
--   parameters  user_id, item_id  of any type; others as track()
--   returns, reads, writes, errors  as track()
create or replace function recdb.track(
    user_id anynonarray, item_id anycompatiblenonarray, kind text, created_at timestamptz default now(),
    metadata jsonb default null, value double precision default null
)
returns bigint
language sql volatile
as $$
    select recdb.track(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)),
        recdb.id_text($2::pg_catalog.text, pg_catalog.pg_typeof($2)), $3, $4, $5, $6)
$$;
comment on function recdb.track(anynonarray, anycompatiblenonarray, text, timestamptz, jsonb, double precision) is
    'track() for a first id that is no text, such as a bigint or a uuid; the second is of any type.';


-- recdb.track for a text as first id.
--   parameters  item_id  of any type; others as track()
--   returns, reads, writes, errors  as track()
create or replace function recdb.track(
    user_id text, item_id anynonarray, kind text, created_at timestamptz default now(),
    metadata jsonb default null, value double precision default null
)
returns bigint
language sql volatile
as $$
    select recdb.track(
        $1,
        recdb.id_text($2::pg_catalog.text, pg_catalog.pg_typeof($2)), $3, $4, $5, $6)
$$;
comment on function recdb.track(text, anynonarray, text, timestamptz, jsonb, double precision) is
    'track() for a text as first id, and a second one that is no text.';


-- recdb.track for a kind of an enum type, with ids that are text.
--   parameters  kind  of any enum type; others as track()
--   returns, reads, writes, errors  as track()
create or replace function recdb.track(
    user_id text, item_id text, kind anyenum, created_at timestamptz default now(),
    metadata jsonb default null, value double precision default null
)
returns bigint
language sql volatile
as $$
    select recdb.track(
        $1,
        $2, $3::pg_catalog.text, $4, $5, $6)
$$;
comment on function recdb.track(text, text, anyenum, timestamptz, jsonb, double precision) is
    'track() for a kind of an enum type, with ids that are text.';


-- recdb.track for a kind of an enum type, with a user id that is no text.
--   parameters  kind  of any enum type; others as track()
--   returns, reads, writes, errors  as track()
create or replace function recdb.track(
    user_id anycompatiblenonarray, item_id text, kind anyenum, created_at timestamptz default now(),
    metadata jsonb default null, value double precision default null
)
returns bigint
language sql volatile
as $$
    select recdb.track(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)),
        $2, $3::pg_catalog.text, $4, $5, $6)
$$;
comment on function recdb.track(anycompatiblenonarray, text, anyenum, timestamptz, jsonb, double precision) is
    'track() for a kind of an enum type, with a user id that is no text.';


-- recdb.track for a kind of an enum type, with an item id that is no text.
--   parameters  kind  of any enum type; others as track()
--   returns, reads, writes, errors  as track()
create or replace function recdb.track(
    user_id text, item_id anycompatiblenonarray, kind anyenum, created_at timestamptz default now(),
    metadata jsonb default null, value double precision default null
)
returns bigint
language sql volatile
as $$
    select recdb.track(
        $1,
        recdb.id_text($2::pg_catalog.text, pg_catalog.pg_typeof($2)), $3::pg_catalog.text, $4, $5, $6)
$$;
comment on function recdb.track(text, anycompatiblenonarray, anyenum, timestamptz, jsonb, double precision) is
    'track() for a kind of an enum type, with an item id that is no text.';


-- recdb.track for a kind of an enum type, with two ids of alike types that are no text.
--   parameters  kind  of any enum type; others as track()
--   returns, reads, writes, errors  as track()
create or replace function recdb.track(
    user_id anycompatiblenonarray, item_id anycompatiblenonarray, kind anyenum, created_at timestamptz default now(),
    metadata jsonb default null, value double precision default null
)
returns bigint
language sql volatile
as $$
    select recdb.track(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)),
        recdb.id_text($2::pg_catalog.text, pg_catalog.pg_typeof($2)), $3::pg_catalog.text, $4, $5, $6)
$$;
comment on function recdb.track(
    anycompatiblenonarray, anycompatiblenonarray, anyenum, timestamptz, jsonb, double precision) is
    'track() for a kind of an enum type, with two ids of alike types that are no text.';


-- recdb.merge_users for a first id that is no text.
--   parameters  from_id, to_id  of any type; others as merge_users()
--   returns, reads, writes, errors  as merge_users()
create or replace function recdb.merge_users(
    from_id anynonarray, to_id anycompatiblenonarray
)
returns bigint
language sql volatile
as $$
    select recdb.merge_users(
        recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)),
        recdb.id_text($2::pg_catalog.text, pg_catalog.pg_typeof($2)))
$$;
comment on function recdb.merge_users(anynonarray, anycompatiblenonarray) is
    'merge_users() for a first id that is no text, such as a bigint or a uuid; the second is of any type.';


-- recdb.merge_users for a text as first id.
--   parameters  to_id  of any type; others as merge_users()
--   returns, reads, writes, errors  as merge_users()
create or replace function recdb.merge_users(
    from_id text, to_id anynonarray
)
returns bigint
language sql volatile
as $$
    select recdb.merge_users(
        $1,
        recdb.id_text($2::pg_catalog.text, pg_catalog.pg_typeof($2)))
$$;
comment on function recdb.merge_users(text, anynonarray) is
    'merge_users() for a text as first id, and a second one that is no text.';


-- recdb.forget_user for an id of any type.
--   parameters  user_id  of any type; others as forget_user()
--   returns, reads, errors  as forget_user()
create or replace function recdb.forget_user(user_id anynonarray)
returns bigint
language sql volatile
as $$
    select recdb.forget_user(recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1)))
$$;
comment on function recdb.forget_user(anynonarray) is
    'forget_user() for a user id that is no text, such as a bigint or a uuid.';


-- recdb.profile_of for an id of any type.
--   parameters  user_id  of any type
--   returns, reads  as profile_of()
create or replace function recdb.profile_of(user_id anynonarray)
returns table (
    item_id text, item_key integer, weight double precision, last_at timestamptz, hides boolean,
    heaviest double precision
)
language sql stable
as $$
    select r.item_id, r.item_key, r.weight, r.last_at, r.hides, r.heaviest
    from recdb.profile_of(recdb.id_text($1::pg_catalog.text, pg_catalog.pg_typeof($1))) r
$$;
comment on function recdb.profile_of(anynonarray) is
    'profile_of() for a user id that is no text, such as a bigint or a uuid.';
