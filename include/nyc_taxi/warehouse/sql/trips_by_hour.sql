-- Trips that began in $borough from $start to before $end, by ISO weekday (1 is Monday) and hour. Hours without trips
-- have no row. {table}, the fleet's table, comes from the catalogue. Its min-max indexes ("zone maps") on
-- pickup_datetime skip other months.
SELECT isodow(pickup_datetime) AS weekday, hour(pickup_datetime) AS hour, count(*) AS num_trips
FROM {table}
WHERE pickup_datetime >= $start AND pickup_datetime < $end
    AND pickup_zone_id IN (SELECT zone_id FROM zones WHERE borough = $borough)
GROUP BY ALL
