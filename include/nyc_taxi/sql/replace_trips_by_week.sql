-- One week's figures: trips whose pickup is from $monday on and before $next_monday, from whatever month's file.
-- The table's zone maps skip what was picked up at other times. A week without trips is a row of zeros.
INSERT INTO trips_by_week
SELECT
    $fleet AS fleet,
    $monday AS period,
    count(*) AS num_trips,
    coalesce(sum(total_amount), 0) AS total_amount,
    coalesce(sum(trip_distance), 0) AS trip_distance,
    coalesce(sum(passenger_count), 0)::BIGINT AS passenger_count
FROM trips
WHERE fleet = $fleet AND pickup_datetime >= $monday AND pickup_datetime < $next_monday
