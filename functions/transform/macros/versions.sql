{#
    True where the version of a row in `one` is newer than that in `other`: first by observation, as in the order that
    a full build ranks them by; a row without an update time is older than one with it.
#}
{% macro is_newer(one, other) -%}
    {%- set never = "timestamp '1900-01-01 00:00:00+00'" -%}
    (
        {{ other }}.event_id is null
        or {{ one }}.observed_at > {{ other }}.observed_at
        or (
            {{ one }}.observed_at = {{ other }}.observed_at
            and coalesce({{ one }}.updated_at, {{ never }}) > coalesce({{ other }}.updated_at, {{ never }})
        )
        or (
            {{ one }}.observed_at = {{ other }}.observed_at
            and coalesce({{ one }}.updated_at, {{ never }}) = coalesce({{ other }}.updated_at, {{ never }})
            and {{ one }}.row_hash > {{ other }}.row_hash
        )
    )
{%- endmacro %}


{#
    Ends a list of common table expressions: `newest`, the newest version of each event in `rows`, and in an incremental
    run `newer`, those of them that are newer than what the table holds. An event may have moved here from another day,
    so all days are asked for the version that is known.
#}
{% macro newest_versions(rows) -%}
    newest as (

        select * from {{ rows }}
        qualify row_number() over (
            partition by event_id
            order by observed_at desc, updated_at desc, row_hash desc
        ) = 1

    )
    {%- if is_incremental() %},

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
    {%- endif %}
{%- endmacro %}
