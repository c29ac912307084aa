-- The version of the schema that a program has to know to work on this database. A later version that
-- earlier programs can't work with says so here; all others they pass over, so that two versions of
-- the program may follow each other in either direction.
CREATE TABLE schema_needs (
    version INTEGER NOT NULL
) STRICT;

INSERT INTO schema_needs (version) VALUES (7);
