-- This application has two kinds beside view, click, like and share. The item of a follow is a user, so a follow hides
-- no post.

insert into recdb.interaction_kind (kind, weight) values ('comment', 0.8), ('follow', 0.5);
