{{
    config(
        materialized='incremental',
        incremental_strategy='merge',
        unique_key='event_id',
        partition_by={'field': 'event_date', 'data_type': 'date', 'granularity': 'day'},
        cluster_by=['event_id']
    )
}}

with source as (

    select
        id as event_id,
        date(time) as event_date,
        ids as known_ids,
        updated as updated_at,
        _observed_at as observed_at,
        _row_hash as row_hash
    from {{ source('raw', 'earthquakes') }}
    -- an observation that came without details says nothing of ids
    where ids is not null
        {% if is_incremental() %}
        and {{ in_partitions('time') }}
        {% endif %}

),

newest as (

    select * from source
    qualify row_number() over (
        partition by event_id
        order by observed_at desc, updated_at desc, row_hash desc
    ) = 1

)
{% if is_incremental() %}
,

known as (

    select
        event_id,
        observed_at,
        updated_at,
        row_hash
    from {{ this }}

),

newer as (

    select newest.*
    from newest
    left join known
        on newest.event_id = known.event_id
    where {{ is_newer('newest', 'known') }}

)

select * from newer
{% else %}

select * from newest
{% endif %}
