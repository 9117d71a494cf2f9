-- What is odd in the data: `recdb doctor` and `recdb refresh --full` name it, and nobody merges or drops it by a guess.


-- recdb.heavy_users: the users who hold more than a fair share of all interactions, such as crawlers.
--   returns     the heaviest first: how many interactions, which share of all (0..1), and the statement that leaves the
--               user out. A user is named from 100 interactions on who has more than 1 % of all and more than 20 times
--               as many as the median user. Interactions of weight 0 do not count
--   reads       interactions, all of them; interaction_kind, config
-- A terminal replaces the characters that it would act on, so the statement has their numbers: it works as printed.
create or replace function recdb.heavy_users()
returns table (user_id text, interactions bigint, share double precision, statement text)
language sql stable rows 10
begin atomic
    with counted as materialized (
        select s.user_id, sum(s.events)::bigint as interactions
        from recdb.sum_by_user() s
        cross join (select f.default_weight from recdb.config f offset 0) c
        left join recdb.interaction_kind k on k.kind = s.kind
        where coalesce(k.weight, c.default_weight) <> 0
        group by s.user_id
    ), fair as (
        select sum(c.interactions) as total,
            percentile_disc(0.5::double precision) within group (order by c.interactions) as median
        from counted c
    )
    select c.user_id, c.interactions, c.interactions / f.total::double precision,
        'insert into recdb.ignored_user (user_id) values ('
            || case when d.acts then 'U&''' || d.written || '''' else quote_literal(c.user_id) end || ');'
    from counted c
    cross join fair f
    cross join lateral (
        select bool_or(h.acts) as acts,
            string_agg(case
                when h.acts then '\' || lpad(to_hex(h.code), 4, '0')
                when h.ch in ('\', '''') then h.ch || h.ch
                else h.ch
            end, '' order by h.position) as written
        from (
            select a.ch, a.position, a.code,
                a.code < 32 or a.code between 127 and 159 or a.code between 8203 and 8207
                    or a.code between 8232 and 8238 or a.code between 8294 and 8297 or a.code = 65279 as acts
            from (
                select s.ch, s.position,
                    -- Only a server that stores UTF-8 knows the number of every character.
                    case when getdatabaseencoding() = 'UTF8' or octet_length(s.ch) = 1 then ascii(s.ch) else 32 end
                        as code
                from regexp_split_to_table(c.user_id, '') with ordinality s(ch, position)
            ) a
        ) h
    ) d
    where c.interactions >= 100 and c.interactions * 100::bigint > f.total and c.interactions > 20 * f.median
    order by c.interactions desc, c.user_id;
end;
comment on function recdb.heavy_users() is
    'The users who hold more than a fair share of all interactions: more than 1 % of all and more than 20 times the '
    'median, from 100 on, without those of weight 0. statement leaves the user out of everybody else''s lists. Reads '
    'all interactions.';


-- recdb.similar_ids: ids that differ only by case, by spaces around them, or by their Unicode form, and so may be one.
--   returns     one row for each group of such ids, of users and of items, in the order of their keys
--   reads       user_key, item_key
create or replace function recdb.similar_ids()
returns table (of text, ids text[])
language sql stable
begin atomic
    select g.of, g.ids
    from (
        select n.of, array_agg(n.id order by n.key) as ids, min(n.key) as first
        from (
            select i.of, i.key, i.id,
                lower(btrim(
                    -- Only a server that stores UTF-8 knows Unicode forms.
                    case when getdatabaseencoding() = 'UTF8' then normalize(i.id, nfc) else i.id end,
                    E' \t\r\n')) as folded
            from (
                select 'user' as of, u.user_key as key, u.user_id as id from recdb.user_key u
                union all
                select 'item', t.item_key, t.item_id from recdb.item_key t
            ) i
        ) n
        group by n.of, n.folded
        having count(*) > 1
    ) g
    order by g.of desc, g.first;
end;
comment on function recdb.similar_ids() is
    'Groups of ids, of users and of items, that differ only by case, by spaces around them or by their Unicode form. '
    'recdb takes them for different ones and merges nothing; recdb.merge_users() merges two users.';
