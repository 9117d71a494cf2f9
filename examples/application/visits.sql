-- Made-up visits, so that the experiment has figures: 1,200 users open the home feed and see its first ten posts. They
-- read half of them, and like more of what they see if their variant is 'fresh'. Chance follows from a hash.
-- Run it once, and then `recdb refresh`.

create temporary table visit as
select u.id as user_id, r.item_id as post_id, r.model_version, r.place::integer,
    recdb.variant(u.id, 'fresher') = 'fresh' as is_fresh
from (select id from "user" order by md5(id) limit 1200) u
cross join lateral recommend(u.id, 10, scenario => 'home')
    with ordinality r(item_id, score, reason, model_version, place);

do $$
begin
    perform recdb.impressions(
        v.user_id, array_agg(v.post_id order by v.place), 'home', model_version => v.model_version)
    from visit v
    group by v.user_id, v.model_version;
end
$$;

-- clock_timestamp() is later than now(), the time of the impressions.
insert into user_interaction (id, user_id, post_id, interaction_type, created_at)
select md5('visit' || k.kind || v.user_id || v.post_id)::uuid::text, v.user_id, v.post_id, k.kind,
    clock_timestamp() at time zone 'utc' + interval '1 second'
from visit v
cross join (values
    ('view', 0.5, 0.5), ('click', 0.13, 0.17), ('like', 0.05, 0.09), ('share', 0.02, 0.021),
    ('not_interested', 0.015, 0.017)
) k(kind, usual, fresh)
where (hashtextextended(v.user_id || v.post_id || k.kind, 1) & 65535) / 65536.0
    < case when v.is_fresh then k.fresh else k.usual end;

drop table visit;
