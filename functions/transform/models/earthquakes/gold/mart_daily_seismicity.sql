{{
    config(
        materialized='incremental',
        incremental_strategy='insert_overwrite',
        partition_by={'field': 'event_date', 'data_type': 'date', 'granularity': 'day'}
    )
}}

with fct_earthquakes as (

    select
        event_id,
        event_time,
        event_date,
        depth_km,
        magnitude,
        event_type,
        review_status,
        magnitude_class,
        energy_j
    from {{ ref('fct_earthquakes') }}
    {% if is_incremental() %}
    where {{ in_partitions('event_date', 'date') }}
    {% endif %}

),

-- the earliest of equal magnitudes, so that the answer does not depend on the order of rows
ranked as (

    select
        *,
        row_number() over (
            partition by event_date
            order by magnitude desc, event_time, event_id
        ) as magnitude_rank
    from fct_earthquakes

),

final as (

    select

        ---------- keys
        event_date,

        ---------- counts
        count(*) as events,
        countif(event_type = 'earthquake') as earthquakes,
        countif(magnitude_class = 'micro') as micro_events,
        countif(magnitude_class = 'minor') as minor_events,
        countif(magnitude_class = 'light') as light_events,
        countif(magnitude_class = 'moderate') as moderate_events,
        countif(magnitude_class = 'strong') as strong_events,
        countif(magnitude_class = 'major') as major_events,
        countif(magnitude_class = 'great') as great_events,
        countif(magnitude_class is null) as unmeasured_events,

        ---------- the largest
        max(magnitude) as max_magnitude,
        max(case when magnitude_rank = 1 and magnitude is not null then event_id end) as max_magnitude_event_id,

        ---------- measures, by exact sums: those of floats depend on the order of rows
        cast(avg(cast(depth_km as numeric)) as float64) as mean_depth_km,
        countif(review_status = 'reviewed') / count(*) as reviewed_share,
        cast(sum(cast(energy_j as numeric)) as float64) as energy_j

    from ranked
    group by event_date

)

select * from final
