-- What is loaded of each month now: the latest of the editions in `loads`.
CREATE OR REPLACE VIEW latest_loads AS
SELECT * FROM loads
QUALIFY row_number() OVER (PARTITION BY fleet, partition_month ORDER BY loaded_at DESC) = 1
