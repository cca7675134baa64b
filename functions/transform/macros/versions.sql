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
