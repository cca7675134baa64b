with classes as (

    select * from {{ ref('magnitude_classes') }}

),

final as (

    select

        ---------- keys
        magnitude_class,

        ---------- attributes
        class_order,
        lower_bound,
        upper_bound,
        description

    from classes

)

select * from final
