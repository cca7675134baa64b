{#
    The class of a magnitude; null when there is none. The bounds are those of the seed magnitude_classes:
    EarthScope (IRIS), https://ds.iris.edu/ds/support/faq/52/how-do-i-interpret-magnitudes-and-magnitude-types/
#}
{% macro magnitude_class(magnitude) -%}
    case
        when {{ magnitude }} is null then null
        when {{ magnitude }} < 3.0 then 'micro'
        when {{ magnitude }} < 4.0 then 'minor'
        when {{ magnitude }} < 5.0 then 'light'
        when {{ magnitude }} < 6.0 then 'moderate'
        when {{ magnitude }} < 7.0 then 'strong'
        when {{ magnitude }} < 8.0 then 'major'
        else 'great'
    end
{%- endmacro %}


{#
    Radiated energy in joules, log10 E = 1.5 M + 4.8 (Gutenberg and Richter 1956; in ergs the constant is 11.8).
    Null for a magnitude above 10, which no fault on Earth can give: such a value is an error, and would drown every sum.
#}
{% macro radiated_energy_j(magnitude) -%}
    case when {{ magnitude }} <= 10.0 then pow(10.0, 1.5 * {{ magnitude }} + 4.8) end
{%- endmacro %}
