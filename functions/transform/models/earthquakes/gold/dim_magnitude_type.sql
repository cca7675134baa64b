with known as (

    select * from {{ ref('magnitude_types') }}

),

seen as (

    select distinct magnitude_type
    from {{ ref('stg_earthquakes') }}
    where magnitude_type is not null

),

every_type as (

    select magnitude_type from known
    union distinct
    select magnitude_type from seen

),

-- networks spell the same type differently: Ml and ml are two keys and one code
final as (

    select

        ---------- keys
        every_type.magnitude_type,

        ---------- attributes
        lower(every_type.magnitude_type) as magnitude_type_code,
        coalesce(known.magnitude_type_name, 'Not described') as magnitude_type_name,
        known.description,
        known.magnitude_type is not null as is_described

    from every_type
    left join known
        on lower(every_type.magnitude_type) = known.magnitude_type

)

select * from final
