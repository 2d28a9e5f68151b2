-- The joins in stg_trips neither lose a trip nor count one twice: it has as many rows as the loads have recorded.
with counted as (
    select
        fleet,
        partition_month,
        count(*) as num_trips
    from {{ ref('stg_trips') }}
    where {{ in_range_of_run() }}
    group by all
),

loaded as (
    select
        fleet,
        partition_month,
        rows_loaded
    from {{ source('warehouse', 'latest_loads') }}
    where {{ in_range_of_run() }}
)

select *
from loaded
full join counted using (fleet, partition_month)
where coalesce(num_trips, 0) != coalesce(rows_loaded, 0)
