-- Two marts that count the same trips in different ways agree, for each airport and direction. The range is in each
-- part, because DuckDB does not pass it through the full join: a month's run would read the flows of all months.
with flows as (
    select
        fleet,
        partition_month,
        pickup_zone_id as airport_zone_id,
        'from' as direction,
        num_trips
    from {{ ref('zone_to_zone_flows') }}
    where {{ in_range_of_run() }}
    union all
    select
        fleet,
        partition_month,
        dropoff_zone_id as airport_zone_id,
        'to' as direction,
        num_trips
    from {{ ref('zone_to_zone_flows') }}
    where {{ in_range_of_run() }}
),

of_airports as (
    select
        fleet,
        partition_month,
        airport_zone_id,
        direction,
        sum(num_trips) as in_flows
    from flows
    where
        airport_zone_id in (
            select zone_id from {{ ref('stg_zones') }}
            where is_airport
        )
    group by all
),

counted as (
    select
        fleet,
        partition_month,
        airport_zone_id,
        direction,
        sum(num_trips) as num_trips
    from {{ ref('airport_trips') }}
    where {{ in_range_of_run() }}
    group by all
),

built as (
    select
        fleet,
        partition_month,
        loaded_at
    from {{ _built_months() }}
    where mart in ('airport_trips', 'zone_to_zone_flows')
    group by all
    having count(*) = 2
)

select *
from of_airports
full join counted using (fleet, partition_month, airport_zone_id, direction)
inner join built using (fleet, partition_month)
where {{ in_range_of_run() }} and num_trips is distinct from in_flows
