use proptest::prelude::*;

use super::{PROJECT, SOURCES};
use crate::project::lines::map_lines;
use crate::project::{Naming, Project, RenderContext, combined_sql};

/// Text made of what templates and yml files are made of, so that much of it gets past the parsers.
fn pieces() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "{%-",
        "-%}",
        " if ",
        " else ",
        " endif ",
        " for x in ",
        " endfor ",
        " set x = ",
        " macro m(a) ",
        " endmacro ",
        "ref('a')",
        "ref('b')",
        "source('raw', 'quakes')",
        "config(",
        "materialized='table'",
        ")",
        "var('x', 1)",
        "this",
        "is_incremental()",
        "range(9999)",
        "m(1)",
        "x",
        "[",
        "]",
        "|",
        "'",
        "\"",
        ",",
        "(",
        "\n",
        "\n  ",
        "\n    ",
        "- name: a",
        "- name: b",
        "models:",
        "sources:",
        "seeds:",
        "columns:",
        "tests:",
        "data_tests:",
        "- unique",
        "- not_null",
        "- accepted_values: {values: [1]}",
        "config:",
        "{",
        "}",
        ":",
        "&a",
        "*a",
        "<<: *a",
        "!x",
        "null",
        "1",
        "-1",
        "é",
        "\t",
        "\r\n",
        "select",
        "~",
        "**",
        "import",
        "extends",
        "call",
    ])
    .prop_map(str::to_owned);
    let piece = prop_oneof![8 => known, 1 => any::<String>()];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_panics_or_hangs(model in pieces(), macros in pieces(), yml in pieces(), dbt in pieces(), seed in pieces()) {
        let other = "select * from {{ source('raw', 'quakes') }}";
        // The model alone first: with everything arbitrary at once, few projects would get past their first file.
        let alone = [("models/d/a.sql", model.as_str())];
        let with_yml = [("models/d/a.sql", other), ("models/d/a.yml", yml.as_str())];
        let with_macros = [("models/d/a.sql", "{{ m(1) }}"), ("macros/m.sql", macros.as_str())];
        let with_seed = [("seeds/d/s.csv", seed.as_str())];
        let with_dbt = [("dbt_project.yml", dbt.as_str()), ("models/d/a.sql", other)];
        let all = [("models/d/a.sql", model.as_str()), ("models/d/a.yml", &yml), ("macros/m.sql", &macros), ("seeds/d/s.csv", &seed)];
        for files in [&alone[..], &with_yml, &with_macros, &with_seed, &with_dbt, &all] {
            let plain = [("dbt_project.yml", PROJECT), ("models/d/sources.yml", SOURCES), ("models/d/b.sql", other)];
            let Ok(project) = Project::load(plain.iter().chain(files).copied()) else { continue };
            for model in project.models() {
                let context = RenderContext { incremental: true, ..RenderContext::default() };
                if let Ok(rendered) = model.render(&context) {
                    prop_assert!(rendered.source_line(1) >= 1);
                }
            }
            let _ = combined_sql(project.tests(), &Naming::default(), None);
        }
    }

    #[test]
    fn a_line_map_has_every_line_in_order_within_the_source(source in "([ab{]{0,2}\n){0,8}", rendered in "([abc]{0,2}\n){0,8}") {
        let lines = map_lines(&source, &rendered);
        prop_assert_eq!(lines.len(), rendered.lines().count());
        prop_assert!(lines.is_sorted(), "{:?}", lines);
        prop_assert!(lines.iter().all(|line| (1..=source.lines().count().max(1)).contains(line)), "{:?}", lines);
    }
}
