-- What the application's role may do: its own tables, and of recdb to read and to write, nothing else.

create role feed login;
grant select, insert on "user" to feed;
grant select on post to feed;
grant select, insert, delete on user_interaction to feed;
grant select on comment, follow to feed;
grant recdb_reader, recdb_writer to feed;
