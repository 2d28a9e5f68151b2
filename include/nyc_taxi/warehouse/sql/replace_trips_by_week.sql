-- The figures of one week: trips with a pickup from $monday to before $next_monday, from the files of all months.
-- The table's min-max indexes ("zone maps") skip row groups with other pickup times. A week without trips has a row of
-- zeros. Figures for which the fleet's trips have no column are null. NaN and infinity count as null.
-- {table}, {is_clean} and the sums come from the catalogue and the audit's rules.
INSERT INTO trips_by_week BY NAME
SELECT
    $fleet AS fleet,
    $monday AS period,
    count(*) AS num_trips,
    {total_amount} AS total_amount,
    {trip_distance} AS trip_distance,
    {passenger_count} AS passenger_count,
    count(*) FILTER (is_clean) AS clean_trips,
    {clean_total_amount} AS clean_total_amount,
    {clean_trip_distance} AS clean_trip_distance
FROM (
    SELECT *, {is_clean} AS is_clean
    FROM {table}
    WHERE pickup_datetime >= $monday AND pickup_datetime < $next_monday
)
