-- Trips that began in $borough from $start to before $end, by ISO weekday (1 is Monday) and hour; no row where none did.
-- {table} is the fleet's table, from the catalogue. Its zone maps on pickup_datetime skip what other months hold.
SELECT isodow(pickup_datetime) AS weekday, hour(pickup_datetime) AS hour, count(*) AS num_trips
FROM {table}
WHERE pickup_datetime >= $start AND pickup_datetime < $end
    AND pickup_zone_id IN (SELECT zone_id FROM zones WHERE borough = $borough)
GROUP BY ALL
