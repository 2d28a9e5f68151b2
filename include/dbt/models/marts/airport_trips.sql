-- Trips from and to airports. A trip from one airport to another is in two rows: from the first, and to the second.
select
    d.fleet,
    d.partition_month,
    d.zone_id as airport_zone_id,
    airport.zone as airport,
    d.direction,
    coalesce(other.borough, 'Unknown') as other_borough,
    count(*) as num_trips,
    count(*) filter (where d.is_clean) as clean_trips,
    {{ sum_of('d.total_amount', 'd.is_clean') }} as clean_total_amount,
    {{ average_of('d.minutes', 'd.is_clean') }} as clean_minutes,
    {{ average_of('d.mph', 'd.is_clean') }} as clean_mph
from {{ ref('int_trip_ends') }} as d
inner join {{ ref('stg_zones') }} as airport on d.zone_id = airport.zone_id and airport.is_airport
left join {{ ref('stg_zones') }} as other on d.other_zone_id = other.zone_id
where {{ in_months_of_run() }}
group by all
