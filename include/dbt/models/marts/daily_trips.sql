-- Trips by day of pickup.
select
    fleet,
    partition_month,
    cast(pickup_datetime as date) as day,
    count(*) as num_trips,
    count(*) filter (where is_clean) as clean_trips,
    {{ sum_of('total_amount') }} as total_amount,
    {{ sum_of('total_amount', 'is_clean') }} as clean_total_amount,
    {{ sum_of('trip_distance', 'is_clean') }} as clean_trip_distance,
    {{ average_of('minutes', 'is_clean') }} as clean_minutes
from {{ ref('stg_trips') }}
where {{ in_months_of_run() }}
group by all
