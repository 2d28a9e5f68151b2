-- Trips by Manhattan zone from $first to $last, both included; 0 where no trip began. Reads trips_by_zone, never trips.
SELECT z.zone_id, z.zone, z.borough, coalesce(sum(t.num_trips), 0)::BIGINT AS num_trips, z.geometry
FROM zones AS z
LEFT JOIN trips_by_zone AS t
    ON t.zone_id = z.zone_id AND t.fleet = $fleet AND t.partition_month BETWEEN $first AND $last
WHERE z.borough = 'Manhattan' AND z.geometry IS NOT NULL
GROUP BY ALL
ORDER BY z.zone_id
