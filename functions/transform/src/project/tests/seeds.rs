use super::{project, wrong};
use crate::project::{Seed, SeedType};

fn seed(text: &str) -> Seed {
    let project = project(&[("seeds/d/s.csv", text)]);
    project.seeds().next().expect("the seed is there").clone()
}

fn types(text: &str) -> Vec<SeedType> {
    seed(text).columns.into_iter().map(|(_, kind)| kind).collect()
}

#[test]
fn types_are_found_as_dbt_finds_them() {
    use SeedType::{Bool, Date, DateTime, Float64, Int64, String};
    assert_eq!(
        types(
            "i,f,d,t,b,s,n\n1,1,2025-07-23,2025-07-23 01:02:03,true,1,\n-2,2.5,2024-02-29,2025-07-23T01:02:03.5,FALSE,x,\n"
        ),
        [Int64, Float64, Date, DateTime, Bool, String, Int64]
    );
    assert_eq!(types("a,b,c\nyes,2025-02-30,nan\n"), [String, String, String]);
}

#[test]
fn an_empty_cell_and_the_word_null_are_null() {
    let seed = seed("a,b\n,x\nnull, y\n1,\" \"\n");
    assert_eq!(seed.columns, [("a".to_owned(), SeedType::Int64), ("b".to_owned(), SeedType::String)]);
    let cell = |text: &str| Some(text.to_owned());
    assert_eq!(seed.rows, [vec![None, cell("x")], vec![None, cell(" y")], vec![cell("1"), None]]);
}

#[test]
fn quotes_and_line_breaks_within_cells_are_kept() {
    let seed = seed("a,b\n\"x, \"\"y\"\"\",\"1\n2\"\n");
    assert_eq!(seed.rows, [vec![Some("x, \"y\"".to_owned()), Some("1\n2".to_owned())]]);
}

#[test]
fn a_declared_type_beats_the_found_one() {
    let yml =
        "seeds:\n  - name: s\n    description: Codes\n    config:\n      column_types: {code: string, at: timestamp}\n";
    let project = project(&[("seeds/d/s.csv", "code,at\n007,2025-07-23T01:02:03Z\n"), ("seeds/d/s.yml", yml)]);
    let seed = project.seeds().next().expect("the seed is there");
    assert_eq!(seed.columns, [("code".to_owned(), SeedType::String), ("at".to_owned(), SeedType::Timestamp)]);
    assert_eq!(seed.rows[0][0].as_deref(), Some("007"));
    assert_eq!((seed.schema.as_str(), seed.dataset.as_str(), seed.description.as_str()), ("silver", "d", "Codes"));
}

#[test]
fn a_cell_that_is_not_of_the_declared_type_names_its_line() {
    let yml = "seeds:\n  - name: s\n    config: {column_types: {a: int64}}\n";
    let error = wrong(&[("seeds/d/s.csv", "a\n1\nx\n"), ("seeds/d/s.yml", yml)]);
    assert_eq!(error.to_string(), "seeds/d/s.csv:3: 'x' in the column 'a' is no int64");
}

#[test]
fn declared_types_are_of_columns_that_exist_and_of_types_that_exist() {
    let yml = |types: &str| format!("seeds:\n  - name: s\n    config:\n      column_types: {{{types}}}\n");
    let error = wrong(&[("seeds/d/s.csv", "a\n1\n"), ("seeds/d/s.yml", &yml("b: int64"))]);
    assert_eq!(error.to_string(), "seeds/d/s.yml:4: column_types names 'b', which seeds/d/s.csv does not have");
    let error = wrong(&[("seeds/d/s.csv", "a\n1\n"), ("seeds/d/s.yml", &yml("a: geography"))]);
    assert_eq!(error.to_string(), "seeds/d/s.yml:4: 'geography' is no type for the column 'a' of a seed");
}

#[test]
fn a_row_of_another_length_names_its_line() {
    let error = wrong(&[("seeds/d/s.csv", "a,b\n1,2\n3\n")]);
    assert_eq!(error.to_string(), "seeds/d/s.csv:3: the row has 1 cells, and the header 2");
}

#[test]
fn a_header_names_every_column_once() {
    assert_eq!(wrong(&[("seeds/d/s.csv", "a,A\n")]).to_string(), "seeds/d/s.csv:1: the column 'A' is there twice");
    assert_eq!(wrong(&[("seeds/d/s.csv", "a,\n")]).to_string(), "seeds/d/s.csv:1: '' is no name for a column");
    assert_eq!(wrong(&[("seeds/d/s.csv", "")]).to_string(), "seeds/d/s.csv:1: there is no header");
}

#[test]
fn the_hash_follows_text_and_types() {
    let typed = |kind: &str| {
        let yml = format!("seeds:\n  - name: s\n    config: {{column_types: {{a: {kind}}}}}\n");
        let project = project(&[("seeds/d/s.csv", "a\n1\n"), ("seeds/d/s.yml", &yml)]);
        project.seeds().next().expect("the seed is there").hash
    };
    assert_eq!(typed("int64"), seed("a\n1\n").hash);
    assert_ne!(typed("string"), seed("a\n1\n").hash);
    assert_ne!(seed("a\n1\n").hash, seed("a\n2\n").hash);
}
