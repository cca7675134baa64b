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

    select * from {{ source('raw', 'earthquakes') }}
    {% if is_incremental() %}
    where {{ in_partitions('time') }}
    {% endif %}

),

renamed as (

    select

        ---------- keys
        id as event_id,

        ---------- times
        time as event_time,
        date(time) as event_date,
        updated as updated_at,

        ---------- hypocentre
        latitude,
        longitude,
        depth as depth_km,

        ---------- size
        mag as magnitude,
        magtype as magnitude_type,

        ---------- what it is called, and how far it is checked
        net as network,
        place,
        type as event_type,
        status as review_status,

        ---------- quality of the solution
        mag_cluster as magnitude_cluster,
        nst as station_count,
        gap as azimuthal_gap_deg,
        dmin as nearest_station_deg,
        rms as rms_s,
        horizontalerror as horizontal_error_km,
        deptherror as depth_error_km,
        magerror as magnitude_error,
        magnst as magnitude_station_count,
        locationsource as location_network,
        magsource as magnitude_network,

        ---------- what people felt, and what it may have done
        felt as felt_reports,
        cdi as community_intensity,
        mmi as instrumental_intensity,
        alert as pager_alert,
        sig as significance,
        tsunami = 1 as has_tsunami_message,
        url as event_url,

        ---------- which version of the row this is
        _observed_at as observed_at,
        _row_hash as row_hash

    from source

),

{{ newest_versions('renamed') }}

select * from {{ 'newer' if is_incremental() else 'newest' }}
