-- What else people do here, beside view, click, like and share. A follow is of a person, so it hides no post.

insert into recdb.interaction_kind (kind, weight) values ('comment', 0.8), ('follow', 0.5);
