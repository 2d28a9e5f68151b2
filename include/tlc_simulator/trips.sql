-- The trips of one month before they are put into a layout, with one row per row of the file, in the file's order.
-- draw(trip, n) is a number in [0, 1) that depends only on the trip and n. Each n occurs only once, so that no two values
-- of a trip are correlated by accident. No value depends on threads or on the order of execution.
-- The table `lists` has one row with lists by zone (beginning with zone 1), lists by hour, and lists to pick from.
WITH counted AS (
    SELECT
        row_number,
        -- A trip that was reported twice is two equal rows. There are none if $repeat_every is null.
        CASE WHEN row_number % $repeat_every::BIGINT = 99 THEN row_number - 1 ELSE row_number END AS i
    FROM range($rows + $added_rows) AS numbers(row_number)
),

numbered AS (
    SELECT
        row_number,
        i,
        -- Each trip has 64 numbers for its draws. A later edition keeps most trips, changes a few, and has additional
        -- ones at its end. In the first edition both keys are the same.
        CASE WHEN i >= $rows OR draw($edition_key + i * 64, 0) < $changed_share THEN $edition_key ELSE $key END + i * 64
            AS trip
    FROM counted
),

ends AS (
    SELECT
        *,
        -- Trips are roughly in chronological order, as in the real files.
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
        -- Most trips are short, so the nearest of three possible goals is usually chosen.
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
            -- One meter has a clock that was never set; the clocks of others are some hours off.
            WHEN i = 700 THEN $unset_clock::TIMESTAMP + to_seconds(floor(draw(trip, 12) * 3600)::BIGINT)
            WHEN draw(trip, 13) < 0.5 THEN $month_start::TIMESTAMP - to_seconds(1 + floor(draw(trip, 12) * 20000)::BIGINT)
            ELSE $month_end::TIMESTAMP + to_seconds(floor(draw(trip, 12) * 20000)::BIGINT)
        END AS pickup_at
    FROM drives
),

-- The known kinds of bad or unusual rows, and the way of charging.
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
),

-- For layouts with coordinates: a place in one of the zone's squares (see city.squares).
places AS (
    SELECT
        *,
        pick(squares[pickup_zone], draw(trip, 32)) AS pickup_square,
        pick(squares[dropoff_zone], draw(trip, 33)) AS dropoff_square,
        draw(trip, 31) AS place_draw,
        draw(trip, 34) AS wrong_place
    FROM tips
),

-- For the layouts of for-hire vehicles: how the trip was ordered, and which base or app sent the car.
orders AS (
    SELECT
        *,
        pick(apps, draw(trip, 35)) AS app,
        pickup_at - to_seconds(90 + floor(600 * draw(trip, 36))::BIGINT) AS requested_at,
        pickup_at - to_seconds(floor(80 * draw(trip, 37))::BIGINT) AS arrived_at,
        draw(trip, 38) < $shared_share AS wants_to_share,
        -- A few bases send most of the cars.
        'B' || lpad((1 + floor(3400 * draw(trip, 39) * draw(trip, 40)))::INTEGER::VARCHAR, 5, '0') AS base,
        draw(trip, 41) AS base_draw,
        draw(trip, 42) AS pickup_draw
    FROM places
)

SELECT
    row_number,
    1 + (draw(trip, 23) < 0.7)::INTEGER AS vendor,
    pickup_at,
    pickup_at + to_seconds(30 + floor(60 * minutes)::BIGINT) AS dropoff_at,
    CASE WHEN NOT is_missing THEN pick(passenger_counts, draw(trip, 24)) END AS passengers,
    distance,
    CASE WHEN NOT is_missing THEN rate_code END AS rate_code,
    CASE WHEN NOT is_missing THEN draw(trip, 25) < 0.007 END AS was_stored,
    pickup_zone,
    dropoff_zone,
    -- Unknown places are 0, and a few places are far from the city.
    CASE
        WHEN pickup_zone = 264 OR place_draw < 0.012 THEN 0
        WHEN place_draw < 0.013 THEN pick(wrong_lons, wrong_place)
        ELSE round(square_lons[pickup_square] + square_miles[pickup_square] * (draw(trip, 26) - 0.5) / 52.4, 6)
    END AS pickup_lon,
    CASE
        WHEN pickup_zone = 264 OR place_draw < 0.012 THEN 0
        WHEN place_draw < 0.013 THEN pick(wrong_lats, wrong_place)
        ELSE round(square_lats[pickup_square] + square_miles[pickup_square] * (draw(trip, 27) - 0.5) / 69, 6)
    END AS pickup_lat,
    CASE
        WHEN dropoff_zone = 264 OR place_draw < 0.012 THEN 0
        WHEN place_draw < 0.014 THEN pick(wrong_lons, wrong_place)
        ELSE round(square_lons[dropoff_square] + square_miles[dropoff_square] * (draw(trip, 28) - 0.5) / 52.4, 6)
    END AS dropoff_lon,
    CASE
        WHEN dropoff_zone = 264 OR place_draw < 0.012 THEN 0
        WHEN place_draw < 0.014 THEN pick(wrong_lats, wrong_place)
        ELSE round(square_lats[dropoff_square] + square_miles[dropoff_square] * (draw(trip, 29) - 0.5) / 69, 6)
    END AS dropoff_lat,
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
    ) AS total,
    CASE WHEN draw(trip, 43) < 0.12 THEN 'DDS' WHEN vendor = 1 THEN 'CMT' ELSE 'VTS' END AS vendor_text,
    -- Of the pickups that bases report, some have no zone, and many have the zone "Unknown".
    CASE
        WHEN pickup_draw < $no_pickup_zone THEN NULL
        WHEN pickup_draw < $no_pickup_zone + $unknown_pickup_zone THEN 264
        ELSE pickup_zone
    END AS reported_pickup_zone,
    CASE WHEN draw(trip, 44) >= $no_dropoff_zone THEN dropoff_zone END AS reported_dropoff_zone,
    CASE WHEN $no_dropoff_zone < 1 THEN dropoff_at END AS reported_dropoff_at,
    CASE WHEN base_draw < 0.01 THEN lower(base) WHEN base_draw < 0.02 THEN rpad(base, 15, ' ') ELSE base END
        AS dispatching_base,
    CASE WHEN base_draw > 0.997 THEN 'UBER' WHEN base_draw > 0.99 THEN NULL WHEN base_draw > 0.7 THEN 'B02764' ELSE base END
        AS affiliated_base,
    app,
    CASE app WHEN 'HV0003' THEN pick(uber_bases, draw(trip, 45)) WHEN 'HV0005' THEN lyft_bases[1] ELSE 'B02800' END
        AS app_base,
    requested_at,
    arrived_at,
    wants_to_share,
    -- Most taxis are hailed in the street; apps send the others.
    CASE WHEN draw(trip, 49) < 0.88 THEN 'A' WHEN draw(trip, 50) < 0.7 THEN 'HV0003' ELSE 'HV0005' END AS request_source,
    wants_to_share AND draw(trip, 46) < 0.6 AS shares,
    draw(trip, 47) < 0.002 AS wants_wheelchair,
    draw(trip, 48) < 0.03 AS takes_wheelchair
FROM orders
