-- Trips by the zones in which they began and ended.
select
    fleet,
    partition_month,
    pickup_zone_id,
    dropoff_zone_id,
    count(*) as num_trips,
    count(*) filter (where is_clean) as clean_trips,
    {{ sum_of('trip_distance', 'is_clean') }} as clean_trip_distance,
    {{ average_of('minutes', 'is_clean') }} as clean_minutes
from {{ ref('stg_trips') }}
where {{ in_months_of_run() }}
group by all
