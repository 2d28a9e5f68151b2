-- Tables that do not depend on a fleet; docs/reference/tables.md says what a row of each is.
-- No keys: DuckDB refuses to insert a key again that the same transaction has deleted, and a month is replaced so.
CREATE TABLE IF NOT EXISTS zones (
    zone_id SMALLINT NOT NULL,
    zone VARCHAR NOT NULL,
    borough VARCHAR NOT NULL,
    service_zone VARCHAR NOT NULL,
    geometry VARCHAR  -- WKT, WGS84; null for "Unknown" and "Outside of NYC"
);
CREATE TABLE IF NOT EXISTS trips_by_zone (
    fleet VARCHAR NOT NULL,
    partition_month DATE NOT NULL,
    zone_id SMALLINT NOT NULL,
    num_trips BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS trips_by_week (
    fleet VARCHAR NOT NULL,
    period DATE NOT NULL,  -- the week's Monday
    num_trips BIGINT NOT NULL,
    -- Sums; null where the fleet's trips have no such column.
    total_amount DOUBLE,
    trip_distance DOUBLE,
    passenger_count BIGINT,
    -- The same of clean trips (see the view trips_clean). Null too where an older version has counted the week.
    clean_trips BIGINT,
    clean_total_amount DOUBLE,
    clean_trip_distance DOUBLE
);
CREATE TABLE IF NOT EXISTS loads (
    fleet VARCHAR NOT NULL,
    partition_month DATE NOT NULL,
    source_url VARCHAR NOT NULL,
    etag VARCHAR,
    last_modified VARCHAR,
    bytes BIGINT NOT NULL,
    rows_in_file BIGINT NOT NULL,
    rows_loaded BIGINT NOT NULL,
    quality JSON NOT NULL,
    loaded_at TIMESTAMP NOT NULL,  -- UTC
    run_id VARCHAR NOT NULL,
    changes JSON,  -- against the edition before it: name to [old, new]; null for the first
    unknown_columns JSON,  -- names of the file's columns that were left out; null where an older version has loaded it
    simulated BOOLEAN  -- whether the file says that its trips are made up; null likewise
);
CREATE TABLE IF NOT EXISTS quality_checks (
    fleet VARCHAR NOT NULL,
    partition_month DATE NOT NULL,
    rule VARCHAR NOT NULL,
    severity VARCHAR NOT NULL,  -- error or warn
    at_most DOUBLE NOT NULL,
    value DOUBLE,  -- null where the rule does not apply
    passed BOOLEAN NOT NULL,
    detail VARCHAR NOT NULL,
    published BOOLEAN NOT NULL,  -- false: the month was refused, and the old one kept
    checked_at TIMESTAMP NOT NULL,  -- UTC
    run_id VARCHAR NOT NULL
);
