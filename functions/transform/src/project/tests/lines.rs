use super::{model, project};
use crate::project::RenderContext;
use crate::project::lines::map_lines;

#[test]
fn text_without_jinja_keeps_its_lines() {
    assert_eq!(map_lines("a\nb\n\nc", "a\nb\n\nc"), [1, 2, 3, 4]);
}

#[test]
fn an_expression_of_many_lines_is_its_own_line() {
    assert_eq!(map_lines("select\n{{ many() }}\nfrom x", "select\none\ntwo\nthree\nfrom x"), [1, 2, 2, 2, 3]);
}

#[test]
fn what_was_left_out_moves_nothing() {
    let source = "select 1\n{% if no %}\nwhere gone\n{% endif %}\norder by 1";
    assert_eq!(map_lines(source, "select 1\n\norder by 1").last(), Some(&5));
}

#[test]
fn an_error_after_config_and_a_macro_is_found_in_the_models_file() {
    let project = project(&[
        ("macros/m.sql", "{% macro several() %}\n1,\n2,\n3\n{% endmacro %}"),
        (
            "models/d/a.sql",
            "{{\n    config(\n        tags=['x']\n    )\n}}\nselect\n    {{ several() }},\n    broken_column\nfrom {{ source('raw', 'quakes') }}",
        ),
    ]);
    let rendered = model(&project, "a").render(&RenderContext::default()).expect("it renders");
    let line_with = |text: &str| rendered.sql.lines().position(|line| line.contains(text)).expect("it is there") + 1;
    assert_eq!(rendered.source_line(line_with("broken_column")), 8);
    assert_eq!(rendered.source_line(line_with("2,")), 7);
    assert_eq!(rendered.source_line(line_with("`raw`")), 9);
    assert_eq!(rendered.source_line(10_000), 9);
}
