{#- No two rows have the same values in these columns; two nulls are the same value. -#}
{% test one_row_for_each(model, columns) %}
select {{ columns | join(', ') }}, count(*) as found
from {{ model }}
where {{ in_range_of_run() }}
group by all
having count(*) > 1
{% endtest %}
