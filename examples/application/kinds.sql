-- This application has three kinds beside view, click, like and share. The item of a follow is a user, so a follow hides
-- no post. "Not interested" is a dislike: its weight is negative, and like every kind it hides its post.

insert into recdb.interaction_kind (kind, weight) values ('comment', 0.8), ('follow', 0.5), ('not_interested', -0.5);
