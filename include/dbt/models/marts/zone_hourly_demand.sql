-- Pickups by zone and hour of the day, apart for weekdays and weekends.
select
    fleet,
    partition_month,
    pickup_zone_id as zone_id,
    isodow(pickup_datetime) >= 6 as is_weekend,
    cast(hour(pickup_datetime) as smallint) as hour,
    count(*) as num_trips,
    count(*) filter (where is_clean) as clean_trips
from {{ ref('stg_trips') }}
where {{ in_months_of_run() }}
group by all
