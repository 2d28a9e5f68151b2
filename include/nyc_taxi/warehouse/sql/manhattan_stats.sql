-- The trips of the months from $first to $last, both included, by Manhattan zone; 0 for zones without trips.
-- It reads the table trips_by_zone instead of the trips.
SELECT z.zone_id, z.zone, z.borough, coalesce(sum(t.num_trips), 0)::BIGINT AS num_trips, z.geometry
FROM zones AS z
LEFT JOIN trips_by_zone AS t
    ON t.zone_id = z.zone_id AND t.fleet = $fleet AND t.partition_month BETWEEN $first AND $last
WHERE z.borough = 'Manhattan' AND z.geometry IS NOT NULL
GROUP BY ALL
ORDER BY z.zone_id
