{{
    config(
        materialized='incremental',
        incremental_strategy='insert_overwrite',
        partition_by={'field': 'event_date', 'data_type': 'date', 'granularity': 'day'},
        cluster_by=['event_id'],
        meta={'neighbour_days': 1}
    )
}}

-- what is one earthquake lies seconds apart, so the two are of the same day or of neighbouring ones
with events as (

    select
        event_id,
        event_date,
        observed_at
    from {{ ref('stg_earthquakes') }}
    {% if is_incremental() %}
    where {{ in_partitions('event_date', 'date') }}
    {% endif %}

),

event_ids as (

    select
        event_id,
        event_date,
        known_ids,
        observed_at
    from {{ ref('stg_event_ids') }}
    where length(known_ids) > length(event_id) + 2
        {% if is_incremental() %}
        and {{ in_partitions('event_date', 'date', 1) }}
        {% endif %}

),

-- the first place is before the first comma
named as (

    select
        event_ids.event_id as survivor_event_id,
        event_ids.event_date as survivor_date,
        event_ids.observed_at as superseded_at,
        split(event_ids.known_ids, ',')[safe_offset(place)] as event_id
    from event_ids
    cross join unnest([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24]) as place

),

-- An event that was seen after it was named stands on its own again. Where both were seen last at the same time and
-- each names the other, the smaller id stays.
superseded as (

    select
        events.event_id,
        events.event_date,
        named.survivor_event_id,
        named.superseded_at
    from events
    inner join named
        on events.event_id = named.event_id
    left join event_ids as own
        on events.event_id = own.event_id
    where named.survivor_event_id != events.event_id
        and abs(date_diff(events.event_date, named.survivor_date, day)) <= 1
        and (
            named.superseded_at > events.observed_at
            or (
                named.superseded_at = events.observed_at
                and not (
                    events.event_id < named.survivor_event_id
                    and coalesce(own.known_ids, '') like concat('%,', named.survivor_event_id, ',%')
                )
            )
        )

),

final as (

    select * from superseded
    qualify row_number() over (
        partition by event_id
        order by superseded_at desc, survivor_event_id
    ) = 1

)

select * from final
