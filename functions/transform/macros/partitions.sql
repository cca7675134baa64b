{# The day after a day, both as YYYY-MM-DD. Jinja has no dates of its own. #}
{% macro next_day(day) -%}
    {%- set year = day[0:4] | int -%}
    {%- set month = day[5:7] | int -%}
    {%- set date = day[8:10] | int -%}
    {%- set leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) -%}
    {%- set days = [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1] -%}
    {%- if date < days -%}
        {{ day[0:8] ~ ('0' ~ (date + 1))[-2:] }}
    {%- elif month < 12 -%}
        {{ day[0:5] ~ ('0' ~ (month + 1))[-2:] ~ '-01' }}
    {%- else -%}
        {{ ('000' ~ (year + 1))[-4:] ~ '-01-01' }}
    {%- endif -%}
{%- endmacro %}


{# One range of days, [first, end), and so many days around it, as constants that BigQuery prunes partitions with. #}
{% macro day_range(column, data_type, first, end, around=0) -%}
    {%- set midnight = ' 00:00:00+00' if data_type == 'timestamp' else '' -%}
    {%- set first = data_type ~ " '" ~ first ~ midnight ~ "'" -%}
    {%- set end = data_type ~ " '" ~ end ~ midnight ~ "'" -%}
    {%- if around > 0 -%}
        {%- set first = data_type ~ '_sub(' ~ first ~ ', interval ' ~ around ~ ' day)' -%}
        {%- set end = data_type ~ '_add(' ~ end ~ ', interval ' ~ around ~ ' day)' -%}
    {%- endif -%}
    ({{ column }} >= {{ first }} and {{ column }} < {{ end }})
{%- endmacro %}


{#
    True for the rows of the partitions that changed: the days in var('changed_partitions').
    Neighbouring days become one range. No list: every partition. An empty list: none.
    `data_type` is the column's, timestamp or date; so many days `around` each of them count too.
#}
{% macro in_partitions(column, data_type='timestamp', around=0) -%}
    {%- set days = var('changed_partitions', none) -%}
    {%- if days is none -%}
        true
    {%- elif days | length == 0 -%}
        false
    {%- else -%}
        {%- set open = namespace(first=none, end=none) -%}
        (
        {%- for day in days | unique | sort -%}
            {%- if open.end != day -%}
                {%- if open.end is not none -%}
                    {{ day_range(column, data_type, open.first, open.end, around) }} or {% endif -%}
                {%- set open.first = day -%}
            {%- endif -%}
            {%- set open.end = next_day(day) -%}
        {%- endfor -%}
        {{ day_range(column, data_type, open.first, open.end, around) }})
    {%- endif -%}
{%- endmacro %}
