-- The ledger of request files, in SQLite: the standard library has it, and it serves many processes at once.
CREATE TABLE IF NOT EXISTS files (
    file TEXT PRIMARY KEY,
    version INTEGER NOT NULL,  -- counts up with each change
    content TEXT,              -- hash of what was last read; null before that, and while the file is not there
    unread TEXT                -- why it cannot be read, as reported; null where it can
);
-- One row is a version of a file.
CREATE TABLE IF NOT EXISTS claims (
    run_id TEXT PRIMARY KEY,
    file TEXT NOT NULL,
    logical_date TEXT NOT NULL UNIQUE,  -- when it was found, UTC
    request TEXT,                       -- JSON; null where the file is malformed
    problem TEXT,                       -- what is wrong with it; null where nothing is
    settled_by TEXT                     -- the look that started or reported it; null until one has
);
