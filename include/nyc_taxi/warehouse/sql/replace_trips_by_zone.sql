-- The trips of one month by pickup zone. It reads only the month's rows, because the table's min-max indexes ("zone
-- maps") skip all other months. {table}, the fleet's table, and {zones}, the highest zone ID, come from the catalogue.
-- Trips with other IDs, which are not zones, are not counted.
INSERT INTO trips_by_zone BY NAME
SELECT $fleet AS fleet, partition_month, pickup_zone_id AS zone_id, count(*) AS num_trips
FROM {table}
WHERE partition_month = $month AND pickup_zone_id BETWEEN 1 AND {zones}
GROUP BY ALL
ORDER BY zone_id
