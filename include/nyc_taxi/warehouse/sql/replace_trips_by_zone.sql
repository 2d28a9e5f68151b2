-- Trips of one month by pickup zone. Reads the month's rows only: the table's zone maps skip all other months.
-- {table} is the fleet's table, {zones} the highest zone id, from the catalogue. Another id is no zone, and counts in none.
INSERT INTO trips_by_zone BY NAME
SELECT $fleet AS fleet, partition_month, pickup_zone_id AS zone_id, count(*) AS num_trips
FROM {table}
WHERE partition_month = $month AND pickup_zone_id BETWEEN 1 AND {zones}
GROUP BY ALL
ORDER BY zone_id
