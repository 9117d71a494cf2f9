-- The application's role may use its own tables, ask recdb for recommendations, and record interactions and impressions,
-- nothing else.

create role feed login;
grant select, insert on "user" to feed;
grant select on post to feed;
grant select, insert, delete on user_interaction to feed;
grant select on comment, follow to feed;
grant recdb_reader, recdb_writer to feed;

-- The product team's role reads the figures of experiments, which are sums over users, and no user's data.

create role product login;
grant recdb_maintainer to product;
grant select on recdb.scenario to product;
