-- Format 2: where a move from another store is, so that it goes on there. One row, for good: what was filled once is not
-- filled again.
CREATE TABLE imports(source bytea PRIMARY KEY, place text NOT NULL, done boolean NOT NULL DEFAULT false);
