use super::{project, wrong};
use crate::project::{Naming, Project, ProjectError, Severity, combined_sql};

fn tested(tests: &str) -> Project {
    let yml = format!("models:\n  - name: a\n    columns:\n      - name: x\n{tests}");
    project(&[("models/d/a.sql", "select 1"), ("models/d/b.sql", "select 1"), ("models/d/a.yml", &yml)])
}

fn only(tests: &str) -> (String, String) {
    let project = tested(tests);
    let [test] = project.tests() else { panic!("one test, not {:?}", project.tests()) };
    (test.name.clone(), test.sql(&Naming::default()))
}

#[test]
fn not_null_and_unique_count_rows() {
    let (name, sql) = only("        tests: [not_null]\n");
    assert_eq!(name, "not_null_a_x");
    assert_eq!(sql, "select countif(x is null) as failures from `silver`.`a`");
    let (name, sql) = only("        data_tests:\n          - unique\n");
    assert_eq!(name, "unique_a_x");
    assert_eq!(sql, "select count(x) - count(distinct x) as failures from `silver`.`a`");
}

#[test]
fn accepted_values_are_quoted_unless_told_otherwise() {
    let (name, sql) = only("        tests:\n          - accepted_values:\n              values: ['a b', \"it's\"]\n");
    assert_eq!(name, "accepted_values_a_x__a_b__it_s");
    assert_eq!(sql, r"select countif(x not in ('a b', 'it\'s')) as failures from `silver`.`a`");
    let arguments =
        "        data_tests:\n          - accepted_values:\n              arguments: {values: [1, 2], quote: false}\n";
    assert!(only(arguments).1.contains("x not in (1, 2)"));
}

#[test]
fn relationships_count_rows_without_a_partner() {
    let (name, sql) = only(
        "        data_tests:\n          - relationships:\n              arguments: {to: ref('b'), field: y}\n              config: {where: x > 0}\n",
    );
    assert_eq!(name, "relationships_a_x__y__ref__b");
    assert_eq!(
        sql,
        "select count(*) as failures from (select x as child_key from `silver`.`a` where (x > 0)) as children \
         left join (select y as parent_key from `silver`.`b`) as parents on children.child_key = parents.parent_key \
         where children.child_key is not null and parents.parent_key is null"
    );
    assert!(
        only("        tests:\n          - relationships: {to: \"source('raw', 'quakes')\", field: y}\n")
            .1
            .contains("`raw`.`quakes`")
    );
}

#[test]
fn where_severity_and_name_are_read_in_both_forms() {
    let project = tested(
        "        tests:\n          - not_null:\n              name: mine\n              config: {where: x < 1, severity: WARN}\n          - unique: {severity: warn, where: x > 1}\n",
    );
    let found: Vec<_> =
        project.tests().iter().map(|test| (test.name.as_str(), test.severity, test.condition.as_deref())).collect();
    assert_eq!(found, [("mine", Severity::Warn, Some("x < 1")), ("unique_a_x", Severity::Warn, Some("x > 1"))]);
    assert_eq!(
        project.tests()[0].sql(&Naming::default()),
        "select countif(x is null) as failures from `silver`.`a` where (x < 1)"
    );
}

#[test]
fn a_test_knows_its_line_and_its_table() {
    let project = tested("        data_tests:\n          - not_null\n          - unique\n");
    assert_eq!(project.tests()[1].place.to_string(), "models/d/a.yml:7");
    assert_eq!(project.tests_of("a").len(), 2);
    assert!(project.tests_of("b").is_empty());
}

#[test]
fn a_test_of_a_whole_table_names_its_column() {
    let yml = "models:\n  - name: a\n    data_tests:\n      - unique: {arguments: {column_name: 'concat(x, y)'}}\n";
    let project = project(&[("models/d/a.sql", "select 1"), ("models/d/a.yml", yml)]);
    assert_eq!(project.tests()[0].column, "concat(x, y)");
    let error =
        wrong(&[("models/d/a.sql", "select 1"), ("models/d/a.yml", "models:\n  - name: a\n    tests: [unique]\n")]);
    assert_eq!(error.to_string(), "models/d/a.yml:3: unique: a test of a whole table needs a column_name");
}

#[test]
fn sources_and_seeds_are_tested_too() {
    let sources = "sources:\n  - name: raw\n    schema: bronze\n    tables:\n      - name: quakes\n        columns:\n          - name: id\n            tests: [not_null]\n";
    let seeds = "seeds:\n  - name: s\n    columns:\n      - name: x\n        tests: [unique]\n";
    let project = project(&[("models/d/sources.yml", sources), ("seeds/d/s.csv", "x\n1\n"), ("seeds/d/s.yml", seeds)]);
    let sql = |on: &str| project.tests_of(on).iter().map(|test| test.sql(&Naming::default())).collect::<Vec<_>>();
    assert_eq!(sql("raw.quakes"), ["select countif(id is null) as failures from `bronze`.`quakes`"]);
    assert_eq!(sql("s"), ["select count(x) - count(distinct x) as failures from `silver`.`s`"]);
}

#[test]
fn all_tests_of_a_table_are_one_query_with_one_scan_for_each_condition() {
    let project = tested(
        "        tests:\n          - not_null\n          - unique\n          - accepted_values: {values: [a], where: x > 1}\n          - relationships: {to: ref('b'), field: y}\n",
    );
    let sql = combined_sql(project.tests_of("a"), &Naming::default(), Some("day = 3")).expect("there are tests");
    assert_eq!(sql.matches("`silver`.`a`").count(), 3, "{sql}");
    assert_eq!(sql.matches("(day = 3)").count(), 3, "{sql}");
    assert!(sql.contains("where (x > 1) and (day = 3)"), "{sql}");
    for test in project.tests() {
        assert!(sql.contains(&format!("'{}'", test.name)), "{sql}");
    }
    assert_eq!(combined_sql([], &Naming::default(), None), None);
}

#[test]
fn an_unknown_test_names_its_line() {
    let yml = "models:\n  - name: a\n    columns:\n      - name: x\n        tests:\n          - not_null\n          - not_nul\n";
    let error = wrong(&[("models/d/a.sql", "select 1"), ("models/d/a.yml", yml)]);
    assert!(matches!(error, ProjectError::UnknownTest { .. }), "{error}");
    assert!(error.to_string().starts_with("models/d/a.yml:7: unknown test 'not_nul'"), "{error}");
}

#[test]
fn a_test_that_makes_no_sense_is_refused_with_its_line() {
    for (test, said) in [
        ("accepted_values: {values: []}", "accepted_values: values should be a list with something in it"),
        ("accepted_values: {values: [[1]]}", "accepted_values: values should be texts, numbers or booleans"),
        ("relationships: {field: y}", "relationships: to should be ref('...') or source('...', '...')"),
        ("relationships: {to: '3', field: y}", "relationships: to should be"),
        ("relationships: {to: \"ref('c')\", field: y}", "there is no model or seed named 'c'; did you mean a?"),
        ("not_null: {config: {severity: loud}}", "not_null: severity should be error or warn, not loud"),
        ("not_null: {config: {where: \"{{ x }}\"}}", "not_null: where cannot hold Jinja"),
    ] {
        let yml = format!("models:\n  - name: a\n    columns:\n      - name: x\n        tests:\n          - {test}\n");
        let error = wrong(&[("models/d/a.sql", "select 1"), ("models/d/a.yml", &yml)]);
        assert!(error.to_string().starts_with(&format!("models/d/a.yml:6: {said}")), "{error}");
    }
}

#[test]
fn the_same_test_twice_is_refused() {
    let yml =
        "models:\n  - name: a\n    columns:\n      - name: x\n        tests: [unique]\n        data_tests: [unique]\n";
    let error = wrong(&[("models/d/a.sql", "select 1"), ("models/d/a.yml", yml)]);
    assert!(matches!(&error, ProjectError::Duplicate { name, .. } if name == "unique_a_x"), "{error}");
}
