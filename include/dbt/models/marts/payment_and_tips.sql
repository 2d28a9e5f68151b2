-- How passengers paid, and what they tipped. The share of the tip is of the fares of clean trips.
select
    fleet,
    partition_month,
    payment_type,
    coalesce(payment, 'Not known') as payment,
    count(*) as num_trips,
    count(*) filter (where is_clean) as clean_trips,
    count(*) filter (where is_clean and tip_amount > 0) as tipped_trips,
    {{ sum_of('fare_amount', 'is_clean') }} as clean_fare_amount,
    {{ sum_of('tip_amount', 'is_clean') }} as clean_tip_amount,
    100 * clean_tip_amount / nullif(clean_fare_amount, 0) as tip_percent
from {{ ref('stg_trips') }}
where {{ in_months_of_run() }}
group by all
