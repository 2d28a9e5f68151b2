-- The ledger of request files, in SQLite: it is in the standard library, and many processes can use it at once.
CREATE TABLE IF NOT EXISTS files (
    file TEXT PRIMARY KEY,
    version INTEGER NOT NULL,  -- incremented with each change
    content TEXT,              -- hash of what was last read; null before the first read, and while the file is missing
    unread TEXT                -- why it cannot be read, as reported; null if it can
);
-- One row per version of a file.
CREATE TABLE IF NOT EXISTS claims (
    run_id TEXT PRIMARY KEY,
    file TEXT NOT NULL,
    logical_date TEXT NOT NULL UNIQUE,  -- when it was found, UTC
    request TEXT,                       -- JSON; null if the file is malformed
    problem TEXT,                       -- what is wrong with the file; null if it is well-formed
    settled_by TEXT                     -- the poll that started or reported it; null before that
);
