with known as (

    select * from {{ ref('seismic_networks') }}

),

stg_earthquakes as (

    select
        network,
        location_network,
        magnitude_network
    from {{ ref('stg_earthquakes') }}

),

seen as (

    select network from stg_earthquakes
    union distinct
    select location_network as network from stg_earthquakes
    union distinct
    select magnitude_network as network from stg_earthquakes

),

every_network as (

    select network from known
    union distinct
    select network from seen where network is not null

),

final as (

    select

        ---------- keys
        every_network.network,

        ---------- attributes
        coalesce(known.network_name, 'Not described') as network_name,
        known.region,
        known.network is not null as is_described

    from every_network
    left join known
        on lower(every_network.network) = known.network

)

select * from final
