select
    partition_month,
    zone_id,
    sum(share_percent) as percent
from {{ ref('fleet_market_share') }}
where {{ in_range_of_run(of_fleet=false) }}
group by all
having abs(percent - 100) > 1e-6
