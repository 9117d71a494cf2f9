-- Items that a model version has not seen, and the links that lead to them. A link is a weight as item_neighbor has it,
-- from an item that a user may have to a new one.
--
-- A version knows the items from whose interactions it learned. Everything else in the catalogue is new for it, with or
-- without a key: it gets its place from its present content. The training places and links the available items that
-- nobody has touched; their links are in item_neighbor. link_items() does so for those that come later or have other
-- content since; their links are in item_link.


-- recdb.content_digest: a hash of the content of an item.
--   parameters  owner_id, title, attributes, embedding  as in the catalogue; each may be NULL
--   returns     a number that differs if the content does
create or replace function recdb.content_digest(owner_id text, title text, attributes jsonb, embedding real[])
returns bigint
language sql immutable parallel safe
begin atomic
    select hash_record_extended(
        row(content_digest.owner_id, content_digest.title, content_digest.attributes, content_digest.embedding),
        0::bigint);
end;
comment on function recdb.content_digest(text, text, jsonb, real[]) is
    'Internal: a hash of the content of an item: the item is placed again when it differs.';


-- recdb.knows: whether a model version learned from the interactions with an item.
--   parameters  model_id, item_key  the version and the item
--   returns     true or false. An item that nobody had touched may be in item_neighbor too, and is in new_item then
--   reads       item_vector, content_vector, item_neighbor and new_item by key
create or replace function recdb.knows(model_id integer, item_key integer)
returns boolean
language sql stable
begin atomic
    select exists (
            select from recdb.item_vector v where v.model_id = knows.model_id and v.item_key = knows.item_key)
        or exists (
            select from recdb.content_vector v where v.model_id = knows.model_id and v.item_key = knows.item_key)
        or exists (
            select from recdb.item_neighbor r where r.model_id = knows.model_id and r.item_key = knows.item_key)
        and not exists (
            select from recdb.new_item n where n.model_id = knows.model_id and n.item_key = knows.item_key);
end;
comment on function recdb.knows(integer, integer) is
    'Internal: whether a model version learned from the interactions with an item; every other item is new for it.';


-- recdb.link_item: lead from the items that a model version knows to a new one, and back.
--   parameters  model_id   the version
--               item_key   the new item
--               placed     its unit vector; NULL for none: then no link is left
--               weight     a similarity times this is a weight
--   reads       all content_vector of the version: fifty thousand take some 50 ms
--   writes      item_link, those from content
-- The links of an item come from the 300 most similar items that the version knows. Its own links lead to the 50 most
-- similar ones, for users who have the item.
create or replace function recdb.link_item(
    model_id integer, item_key integer, placed real[], weight double precision
)
returns void
language plpgsql volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    target constant @vector@.vector := placed::@vector@.vector;
begin
    delete from recdb.item_link l
    where l.model_id = link_item.model_id and l.item_key = link_item.item_key and not l.touched;
    delete from recdb.item_link l
    where l.model_id = link_item.model_id and l.source_key = link_item.item_key and not l.touched;
    with near as materialized (
        select s.item_key, s.similarity * link_item.weight as weight,
            row_number() over (order by s.similarity desc) as place
        from (
            select v.item_key, -(v.embedding::@vector@.vector operator(@vector@.<#>) target) as similarity
            from recdb.content_vector v
            where v.model_id = link_item.model_id
            order by similarity desc
            limit 300
        ) s
        where s.similarity > 0
    )
    insert into recdb.item_link (model_id, source_key, item_key, touched, weight)
    select link_item.model_id, n.item_key, link_item.item_key, false, n.weight from near n
    union all
    select link_item.model_id, link_item.item_key, n.item_key, false, n.weight from near n where n.place <= 50
    on conflict (model_id, source_key, item_key, touched) do update set weight = excluded.weight;
end
$$;
comment on function recdb.link_item(integer, integer, real[], double precision) is
    'Internal: leads from the items that a model version knows to a new one, and back, by their content.';


-- recdb.drop_learned: take out of item_neighbor the links of an item that nobody had touched at the training.
--   parameters  model_id, item_key  the version and the item
--   reads       all item_neighbor of the version
--   writes      item_neighbor: the rows with the item; the totals, which do not contain it, stay
create or replace function recdb.drop_learned(model_id integer, item_key integer)
returns void
language plpgsql volatile
set search_path from current
as $$
#variable_conflict use_column
begin
    delete from recdb.item_neighbor r
    where r.model_id = drop_learned.model_id and r.item_key = drop_learned.item_key;
    update recdb.item_neighbor r
    set neighbor_keys = r.neighbor_keys[:p.place - 1] || r.neighbor_keys[p.place + 1:],
        weights = r.weights[:p.place - 1] || r.weights[p.place + 1:]
    from (
        select o.item_key, array_position(o.neighbor_keys, drop_learned.item_key) as place
        from recdb.item_neighbor o
        where o.model_id = drop_learned.model_id and drop_learned.item_key = any (o.neighbor_keys)
    ) p
    where r.model_id = drop_learned.model_id and r.item_key = p.item_key;
end
$$;
comment on function recdb.drop_learned(integer, integer) is
    'Internal: takes the links that a training gave an item which nobody had touched out of item_neighbor.';


-- recdb.link_items: rank items of the catalogue that a model version does not know by their content, from now on.
--   parameters  item_ids      the items
--               most_learned  so many of those that a training placed, and whose content has changed, are placed again
--   returns     how many items were placed, of all kept versions
--   reads       read_item() of each, content_token, content_vector
--   writes      item_key, for items without a key; new_item, item_link; as drop_learned()
-- An item is placed again if its content differs from that by which it was placed. Its links stay if its place is the
-- same.
create or replace function recdb.link_items(item_ids text[], most_learned bigint default 0)
returns bigint
language plpgsql volatile security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    fresh record;
    moved boolean;
    replaced bigint := 0;
    placed bigint := 0;
begin
    insert into recdb.item_key (item_id)
    select i.item_id
    from (select distinct u.id from unnest(item_ids) u(id)) u
    cross join lateral recdb.read_item(u.id) i
    where not exists (select from recdb.item_key t where t.item_id = i.item_id) and octet_length(i.item_id) <= 2600
    order by i.item_id
    on conflict (item_id) do nothing;

    for fresh in
        select d.*, p.place
        from (
            select c.model_id, c.scale, t.item_key, i.owner_id, i.title, i.attributes, i.embedding,
                recdb.content_digest(i.owner_id, i.title, i.attributes, i.embedding) as digest,
                n.embedding as was, n.digest as old_digest, coalesce(n.users, 0) as users
            from (select distinct u.id from unnest(item_ids) u(id)) u
            join recdb.item_key t on t.item_id = u.id
            cross join lateral recdb.read_item(u.id) i
            cross join recdb.model_content c
            join recdb.model m on m.model_id = c.model_id and m.state = 'ready'
            left join recdb.new_item n on n.model_id = c.model_id and n.item_key = t.item_key
            where i.available and c.scale > 0 and not recdb.knows(c.model_id, t.item_key)
            offset 0
        ) d
        cross join lateral (
            -- So many tokens are a mistake, and would cost seconds.
            select recdb.place_item(d.model_id, array(
                select f.token from recdb.item_tokens(d.owner_id, d.title, d.attributes) f order by f.token limit 5000
            ), d.embedding)::real[] as place
            offset 0
        ) p
        where d.digest is distinct from d.old_digest
    loop
        moved := (fresh.was is null) <> (fresh.place is null) or coalesce(
            -(fresh.was::@vector@.vector operator(@vector@.<#>) fresh.place::@vector@.vector)
                < 0.999::double precision, false);
        if moved and exists (
            select from recdb.item_neighbor r where r.model_id = fresh.model_id and r.item_key = fresh.item_key)
        then
            continue when replaced >= most_learned;
            replaced := replaced + 1;
            perform recdb.drop_learned(fresh.model_id, fresh.item_key);
        end if;
        insert into recdb.new_item (model_id, item_key, embedding, digest)
        values (fresh.model_id, fresh.item_key, fresh.place, fresh.digest)
        on conflict (model_id, item_key) do update set embedding = excluded.embedding, digest = excluded.digest;
        if moved then
            perform recdb.link_item(
                fresh.model_id, fresh.item_key, fresh.place, fresh.scale * 10::double precision
                / (10 + fresh.users)::double precision);
            placed := placed + (fresh.place is not null)::integer;
        end if;
    end loop;
    return placed;
end
$$;
comment on function recdb.link_items(text[], bigint) is
    'Internal: lets recommend() rank items that a model version does not know by their present content; how many were '
    'placed.';


-- recdb.link_few: link_items() for the items of one statement of the application, which must not wait for it.
--   parameters  item_ids  the items; with more than 5, or with 100 kB of content, they wait for the next refresh
--   reads, writes  as link_items()
create or replace function recdb.link_few(item_ids text[])
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    fresh text[];
begin
    if cardinality(item_ids) not between 1 and 5 then
        return;
    end if;
    -- Most changes are of items that all versions know: they cost little.
    fresh := array(
        select u.id
        from unnest(item_ids) u(id)
        left join recdb.item_key t on t.item_id = u.id
        where exists (
            select from recdb.model_content c
            join recdb.model m on m.model_id = c.model_id and m.state = 'ready'
            where c.scale > 0 and not exists (
                select from recdb.item_vector v where v.model_id = c.model_id and v.item_key = t.item_key)));
    if fresh <> '{}' then
        perform recdb.link_items(array(
            select i.item_id
            from unnest(fresh) u(id)
            cross join lateral recdb.read_item(u.id) i
            where coalesce(octet_length(i.title), 0) + coalesce(octet_length(i.attributes::text), 0) < 100000));
    end if;
end
$$;
comment on function recdb.link_few(text[]) is
    'Internal: link_items() for the items of one statement of the application, if they are few.';


-- recdb.due_items: the items of the catalogue that a refresh places next.
--   parameters  most  so many
--   returns     item ids, first those that arrived since the training, the last one first; then those with other
--               content; then the rest, the newest first. Every fourth is the one that has waited longest
--   reads       read_items(), item_key, item_vector, content_vector, item_neighbor, new_item
--   writes      arrived_item; it deletes new items that the catalogue no longer has and nobody touched, from new_item
--               and item_link
-- An attached table says nothing of what is new in it: so recdb notes when it met an item first.
create or replace function recdb.due_items(most bigint)
returns text[]
language plpgsql volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    trained_at constant timestamptz := (select max(m.created_at) from recdb.model m where m.state = 'ready');
    chosen text[];
    removed integer[];
begin
    with version as materialized (
        select c.model_id from recdb.model_content c join recdb.model m on m.model_id = c.model_id
        where m.state = 'ready' and c.scale > 0
    ), known as materialized (
        select v.model_id, v.item_key from recdb.item_vector v where v.model_id in (select s.model_id from version s)
        union
        select v.model_id, v.item_key from recdb.content_vector v where v.model_id in (select s.model_id from version s)
        union
        (select r.model_id, r.item_key from recdb.item_neighbor r where r.model_id in (select s.model_id from version s)
        except
        select n.model_id, n.item_key from recdb.new_item n)
    ), item as materialized (
        select i.item_id, t.item_key, i.published_at, i.available,
            recdb.content_digest(i.owner_id, i.title, i.attributes, i.embedding) as digest
        from recdb.read_items() i
        left join recdb.item_key t on t.item_id = i.item_id
        left join (
            select k.item_key from known k group by k.item_key having count(*) = (select count(*) from version)
        ) w on w.item_key = t.item_key
        where w.item_key is null and octet_length(i.item_id) <= 2600
    ), added as (
        insert into recdb.arrived_item (item_id)
        select i.item_id from item i
        where i.available and not exists (select from recdb.arrived_item a where a.item_id = i.item_id)
        on conflict (item_id) do nothing
    ), gone as (
        delete from recdb.arrived_item a
        where not exists (select from item i where i.item_id = a.item_id and i.available)
    ), vanished as (
        delete from recdb.new_item n
        where n.model_id in (select v.model_id from version v)
          and not exists (select from item i where i.item_key = n.item_key)
          and not exists (select from recdb.item_popularity p where p.item_key = n.item_key)
          and not exists (
              select from recdb.item_neighbor r where r.model_id = n.model_id and r.item_key = n.item_key)
        returning n.item_key
    )
    select array_agg(o.item_id order by o.turn, o.item_id), array(select v.item_key from vanished v)
    into chosen, removed
    from (
        select d.item_id, least(
                2 * row_number() over (order by d.rank, d.arrived_at desc, d.published_at desc nulls last, d.item_id),
                6 * row_number() over (order by d.arrived_at, d.published_at nulls first, d.item_id) + 1) as turn
        from (
            select i.item_id, i.published_at, coalesce(a.arrived_at, now()) as arrived_at,
                case when bool_or(n.digest is not null) then 2
                    when coalesce(a.arrived_at > trained_at, true) then 1
                    else 3 end as rank
            from item i
            cross join version v
            left join known k on k.model_id = v.model_id and k.item_key = i.item_key
            left join recdb.new_item n on n.model_id = v.model_id and n.item_key = i.item_key
            left join recdb.arrived_item a on a.item_id = i.item_id
            where i.available and k.item_key is null and n.digest is distinct from i.digest
            group by i.item_id, i.published_at, a.arrived_at
        ) d
        order by turn, d.item_id
        limit most
    ) o;
    if removed <> '{}' then
        delete from recdb.item_link l where l.item_key = any (removed) or l.source_key = any (removed);
    end if;
    return coalesce(chosen, '{}');
end
$$;
comment on function recdb.due_items(bigint) is
    'Internal: the items of the catalogue that a refresh places next, in this order.';


-- recdb.trim_links: keep the strongest links from each item.
--   parameters  most  so many from each
--   writes      item_link; it waits for nobody
-- A list reads all links from the items of its user. Without a limit, it would cost more with each new item.
create or replace function recdb.trim_links(most bigint)
returns void
language plpgsql volatile
set search_path from current
as $$
declare
    crowded record;
begin
    for crowded in
        select l.model_id, l.source_key from recdb.item_link l
        group by l.model_id, l.source_key having count(*) > most
    loop
        delete from recdb.item_link l
        using (
            select x.item_key, x.touched
            from recdb.item_link x
            where x.model_id = crowded.model_id and x.source_key = crowded.source_key
            order by x.weight desc, x.item_key, x.touched
            offset most
            for update skip locked
        ) d
        where l.model_id = crowded.model_id and l.source_key = crowded.source_key and l.item_key = d.item_key
          and l.touched = d.touched;
    end loop;
end
$$;
comment on function recdb.trim_links(bigint) is
    'Internal: keeps the strongest links from each item to new ones.';


-- recdb.link_new_items: link_items() for the items of the catalogue that wait for it.
--   returns     how many items were placed
--   reads, writes  as due_items(), link_items() and trim_links()
-- A refresh calls it. It stops after two seconds, or after 1,000 items; the next refresh goes on.
create or replace function recdb.link_new_items()
returns bigint
language plpgsql volatile
set search_path from current
as $$
declare
    began timestamptz;
    vectors bigint;
    due text[];
    step bigint;
    placed bigint := 0;
begin
    if not exists (
        select from recdb.model_content c join recdb.model m on m.model_id = c.model_id
        where m.state = 'ready' and c.scale > 0)
    then
        return 0;
    end if;
    due := recdb.due_items(1000::bigint);
    select count(*) into vectors from recdb.content_vector v;
    step := greatest(5, least(50, 200000 / greatest(1, vectors)));
    began := clock_timestamp();
    for done in 0 .. cardinality(due) - 1 by step loop
        placed := placed + recdb.link_items(
            due[done + 1 : done + step], case when done = 0 then 5::bigint else 0::bigint end);
        exit when clock_timestamp() > began + interval '2 seconds';
    end loop;
    perform recdb.trim_links(100::bigint);
    return placed;
end
$$;
comment on function recdb.link_new_items() is
    'Internal: lets recommend() rank items of the catalogue that a kept model version does not know, for two seconds.';
