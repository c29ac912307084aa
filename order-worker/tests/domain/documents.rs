//! docs/SOURCES.md names only existing tests.

use std::{collections::BTreeSet, fs, path::Path};

/// All `module::test` names in a folder.
fn tests(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let functions = text.split("fn ").skip(1);
        let functions = functions.filter_map(|after_fn| after_fn.split('(').next());
        names.extend(functions.map(|function| format!("{module}::{function}")));
    }
    names
}

#[test]
fn tests_named_in_sources_md_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut existing_tests = tests(&root.join("api-gateway/tests/e2e"));
    existing_tests.extend(tests(&root.join("order-worker/tests/domain")));
    let text = fs::read_to_string(root.join("docs/SOURCES.md")).unwrap();
    let quoted_texts = text.split('`').skip(1).step_by(2);
    let named_tests: Vec<_> = quoted_texts.filter(|name| name.contains("::")).collect();
    assert!(named_tests.len() > 80, "{}", named_tests.len());
    for name in named_tests
        .into_iter()
        .filter(|name| *name != "module::test")
    {
        assert!(
            existing_tests.contains(name),
            "the test {name} does not exist"
        );
    }
}
