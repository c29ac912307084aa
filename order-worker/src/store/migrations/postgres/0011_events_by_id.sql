-- An index is of use to those alone who compare as it does: without this an event was looked for by its
-- id among all that ever happened. Neither the table nor the index is written again.
ALTER TABLE events ALTER COLUMN id TYPE TEXT COLLATE "C";
