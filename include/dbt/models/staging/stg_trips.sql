-- Every trip as published: the texts of its codes, how long and how fast it was, and whether it is clean.
select
    t.fleet,
    t.partition_month,
    t.pickup_datetime,
    t.dropoff_datetime,
    (epoch_us(t.dropoff_datetime) - epoch_us(t.pickup_datetime)) / 60e6 as minutes,
    t.trip_distance,
    case when t.dropoff_datetime > t.pickup_datetime then t.trip_distance * 60 / minutes end as mph,
    t.pickup_zone_id,
    t.dropoff_zone_id,
    t.passenger_count,
    t.vendor_id,
    v.vendor,
    t.rate_code_id,
    r.rate_code,
    t.payment_type,
    p.payment,
    t.fare_amount,
    t.tip_amount,
    t.total_amount,
    t.flags,
    t.is_clean
from {{ source('warehouse', 'trips_flagged') }} as t
left join {{ ref('vendors') }} as v on t.vendor_id = v.vendor_id
left join {{ ref('rate_codes') }} as r on t.rate_code_id = r.rate_code_id
left join {{ ref('payment_types') }} as p on t.payment_type = p.payment_type
