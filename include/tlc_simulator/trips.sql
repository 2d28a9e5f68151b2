-- The trips of one month, before they are put into a layout: a row for each row of the file, in the file's order.
-- draw(trip, n) is a number in [0, 1) that depends on the trip and n only. Each n stands here once, so that no two
-- values of a trip depend on each other by accident, and no value depends on threads or on the order of work.
-- The table `lists` has one row: lists by zone (zone 1 first), by hour, and lists to pick from.
WITH numbered AS (
    SELECT
        i,
        -- 64 numbers are set aside for each trip's draws. A later edition of a month keeps most trips, changes a few and
        -- has some more at its end; in the first edition both keys are the same.
        CASE WHEN i >= $rows OR draw($edition_key + i * 64, 0) < $changed_share THEN $edition_key ELSE $key END + i * 64
            AS trip
    FROM range($rows + $added_rows) AS numbers(i)
),

ends AS (
    SELECT
        *,
        -- Trips stand roughly in order of time, as in the real files.
        pick(hours, CASE WHEN i < $rows THEN (i + draw(trip, 1)) / $rows ELSE draw(trip, 2) END) AS hour_of_month,
        pick(pickup_zones, draw(trip, 3)) AS pickup_zone,
        pick(dropoff_zones, draw(trip, 4)) AS goal,
        pick(dropoff_zones, draw(trip, 5)) AS other_goal,
        pick(dropoff_zones, draw(trip, 6)) AS third_goal
    FROM numbered
    CROSS JOIN lists
),

distances AS (
    SELECT
        *,
        miles(lons, lats, pickup_zone, goal) AS goal_miles,
        miles(lons, lats, pickup_zone, other_goal) AS other_miles,
        miles(lons, lats, pickup_zone, third_goal) AS third_miles,
        -- Near goals are chosen more often than far ones: most trips are short.
        CASE WHEN draw(trip, 7) < 0.2 THEN goal_miles ELSE least(goal_miles, other_miles, third_miles) END AS straight_miles
    FROM ends
),

routes AS (
    SELECT
        *,
        CASE straight_miles WHEN goal_miles THEN goal WHEN other_miles THEN other_goal ELSE third_goal END AS dropoff_zone
    FROM distances
),

drives AS (
    SELECT
        *,
        hour_of_month % 24 AS hour,
        core[pickup_zone] AND core[dropoff_zone] AS within_core,
        core[pickup_zone] OR core[dropoff_zone] AS touches_core,
        toll_area[pickup_zone] OR toll_area[dropoff_zone] AS touches_toll_area,
        pickup_zone IN (132, 138) OR dropoff_zone IN (132, 138) AS touches_airport,
        -- Streets are longer than straight lines, and zones are not points.
        straight_miles * (1.1 + 0.4 * draw(trip, 8)) + 0.3 + 0.8 * draw(trip, 9)
            AS driven_miles
    FROM routes
),

times AS (
    SELECT
        *,
        driven_miles / (speeds[hour + 1] * (0.75 + 0.5 * draw(trip, 10))) * 60 + 2 * draw(trip, 11) AS minutes,
        CASE
            WHEN i % $quirk_every != 700
                THEN $month_start::TIMESTAMP + to_seconds(hour_of_month * 3600 + floor(draw(trip, 12) * 3600)::BIGINT)
            -- A meter whose clock was never set, then clocks that are some hours off.
            WHEN i = 700 THEN $unset_clock::TIMESTAMP + to_seconds(floor(draw(trip, 12) * 3600)::BIGINT)
            WHEN draw(trip, 13) < 0.5 THEN $month_start::TIMESTAMP - to_seconds(1 + floor(draw(trip, 12) * 20000)::BIGINT)
            ELSE $month_end::TIMESTAMP + to_seconds(floor(draw(trip, 12) * 20000)::BIGINT)
        END AS pickup_at
    FROM drives
),

-- The known kinds of bad or unusual rows, and how the trip is charged.
kinds AS (
    SELECT
        *,
        draw(trip, 14) < $missing_share AS is_missing,
        CASE WHEN draw(trip, 15) < 0.003 THEN -1 ELSE 1 END AS sign,
        CASE
            WHEN i % $quirk_every = 350 THEN 1000 + round(90000 * draw(trip, 16), 2)
            ELSE round(driven_miles, 2)
        END AS distance,
        CASE
            WHEN draw(trip, 17) < 0.006 THEN 5
            WHEN touches_core AND (pickup_zone = 132 OR dropoff_zone = 132) THEN 2
            WHEN dropoff_zone = 1 THEN 3
            ELSE 1
        END AS rate_code,
        draw(trip, 18) AS payment_draw
    FROM times
),

charges AS (
    SELECT
        *,
        CASE
            WHEN sign < 0 THEN CASE WHEN payment_draw < 0.6 THEN 4 ELSE 3 END
            WHEN payment_draw < $card_share THEN 1
            WHEN payment_draw < 0.985 THEN 2
            WHEN payment_draw < 0.993 THEN 3
            ELSE 4
        END AS payment,
        CASE rate_code
            WHEN 5 THEN 20 + 5 * floor(12 * draw(trip, 19))
            WHEN 2 THEN $fare_to_jfk
            ELSE
                $fare_start + $fare_step * round(5 * driven_miles + 0.3 * minutes)
                + CASE WHEN rate_code = 3 THEN 17.5 ELSE 0 END
        END AS fare,
        CASE
            WHEN hour BETWEEN 16 AND 19 AND isodow(pickup_at) <= 5 THEN $rush_hour_extra
            WHEN hour >= 20 OR hour < 6 THEN $night_extra
            ELSE 0
        END AS extra,
        CASE WHEN touches_airport AND NOT within_core AND draw(trip, 20) < 0.5 THEN $toll ELSE 0 END AS tolls,
        CASE WHEN NOT is_missing THEN $congestion_surcharge * touches_core::INTEGER END AS congestion_surcharge,
        CASE WHEN NOT is_missing THEN $airport_fee * (pickup_zone IN (132, 138))::INTEGER END AS airport_fee,
        $cbd_congestion_fee * touches_toll_area::INTEGER AS cbd_congestion_fee
    FROM kinds
),

tips AS (
    SELECT
        *,
        CASE
            WHEN payment = 1 AND draw(trip, 21) >= 0.05 THEN round((fare + extra) * (0.1 + 0.2 * draw(trip, 22)), 2)
            ELSE 0
        END AS tip
    FROM charges
)

SELECT
    i,
    1 + (draw(trip, 23) < 0.7)::INTEGER AS vendor,
    pickup_at,
    pickup_at + to_seconds(30 + floor(60 * minutes)::BIGINT) AS dropoff_at,
    CASE WHEN NOT is_missing THEN pick(passenger_counts, draw(trip, 24)) END AS passengers,
    distance,
    CASE WHEN NOT is_missing THEN rate_code END AS rate_code,
    CASE WHEN NOT is_missing THEN draw(trip, 25) < 0.007 END AS was_stored,
    pickup_zone,
    dropoff_zone,
    -- Where the place is unknown, coordinates are zero.
    CASE WHEN pickup_zone < 264 THEN round(lons[pickup_zone] + 0.006 * (draw(trip, 26) - 0.5), 6) ELSE 0 END AS pickup_lon,
    CASE WHEN pickup_zone < 264 THEN round(lats[pickup_zone] + 0.006 * (draw(trip, 27) - 0.5), 6) ELSE 0 END AS pickup_lat,
    CASE WHEN dropoff_zone < 264 THEN round(lons[dropoff_zone] + 0.006 * (draw(trip, 28) - 0.5), 6) ELSE 0 END
        AS dropoff_lon,
    CASE WHEN dropoff_zone < 264 THEN round(lats[dropoff_zone] + 0.006 * (draw(trip, 29) - 0.5), 6) ELSE 0 END
        AS dropoff_lat,
    CASE WHEN is_missing THEN $missing_payment::INTEGER ELSE payment END AS payment,
    CASE WHEN NOT is_missing THEN 1 + (draw(trip, 30) < 0.03)::INTEGER END AS trip_type,
    round(sign * fare, 2) AS fare,
    sign * extra AS extra,
    sign * $mta_tax AS mta_tax,
    tip,
    tolls,
    sign * $improvement_surcharge AS improvement_surcharge,
    sign * congestion_surcharge AS congestion_surcharge,
    sign * airport_fee AS airport_fee,
    sign * cbd_congestion_fee AS cbd_congestion_fee,
    round(
        sign * (
            fare + extra + coalesce($mta_tax, 0) + coalesce($improvement_surcharge, 0) + coalesce(congestion_surcharge, 0)
            + coalesce(airport_fee, 0) + coalesce(cbd_congestion_fee, 0)
        ) + tip + tolls,
        2
    ) AS total
FROM tips
