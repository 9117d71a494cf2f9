-- The application's role may use its own tables, ask recdb for recommendations and record interactions, nothing else.

create role feed login;
grant select, insert on "user" to feed;
grant select on post to feed;
grant select, insert, delete on user_interaction to feed;
grant select on comment, follow to feed;
grant recdb_reader, recdb_writer to feed;
