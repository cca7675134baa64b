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

{{ newest_versions('source') }}

select * from {{ 'newer' if is_incremental() else 'newest' }}
