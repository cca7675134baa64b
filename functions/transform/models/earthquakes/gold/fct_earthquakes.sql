{{
    config(
        materialized='incremental',
        incremental_strategy='insert_overwrite',
        partition_by={'field': 'event_date', 'data_type': 'date', 'granularity': 'day'},
        cluster_by=['magnitude_cluster', 'location_network', 'network']
    )
}}

with stg_earthquakes as (

    select * from {{ ref('stg_earthquakes') }}
    {% if is_incremental() %}
    where {{ in_partitions('event_date', 'date') }}
    {% endif %}

),

superseded_events as (

    select event_id from {{ ref('superseded_events') }}
    {% if is_incremental() %}
    where {{ in_partitions('event_date', 'date') }}
    {% endif %}

),

-- what the source has deleted, or merged into another event, stays in silver
current_events as (

    select stg_earthquakes.*
    from stg_earthquakes
    left join superseded_events
        on stg_earthquakes.event_id = superseded_events.event_id
    where superseded_events.event_id is null
        and coalesce(stg_earthquakes.review_status, 'automatic') != 'deleted'

),

final as (

    select

        ---------- keys
        event_id,

        ---------- times
        event_time,
        event_date,
        updated_at,

        ---------- hypocentre
        latitude,
        longitude,
        depth_km,

        ---------- size
        magnitude,
        magnitude_type,

        ---------- what it is called, and how far it is checked
        network,
        place,
        event_type,
        review_status,

        ---------- keys of dimensions
        {{ magnitude_class('magnitude') }} as magnitude_class,
        magnitude_cluster,
        location_network,
        magnitude_network,

        ---------- measures
        {{ radiated_energy_j('magnitude') }} as energy_j,
        station_count,
        magnitude_station_count,
        azimuthal_gap_deg,
        nearest_station_deg,
        rms_s,
        horizontal_error_km,
        depth_error_km,
        magnitude_error,

        ---------- what people felt, and what it may have done
        felt_reports,
        community_intensity,
        instrumental_intensity,
        pager_alert,
        significance,
        has_tsunami_message,
        event_url,

        ---------- when the source last said so
        observed_at

    from current_events

)

select * from final
