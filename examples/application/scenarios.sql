-- How the home feed is steered, and the other way to steer it that an experiment compares with it. In both, a page and
-- the pages before it have at most two posts of one author.

insert into recdb.scenario (name, freshness, max_per_owner, note) values
    ('home', '30 days', 2, 'The home feed'),
    ('home-fresh', '7 days', 2, 'The home feed with newer posts');
