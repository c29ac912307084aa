//! docs/SOURCES.md names only existing tests.

use std::{collections::BTreeSet, fs, path::Path};

/// All `module::test` names in a folder.
fn test_names_in(folder: &Path) -> BTreeSet<String> {
    let mut test_names = BTreeSet::new();
    for folder_entry in fs::read_dir(folder).unwrap() {
        let file_path = folder_entry.unwrap().path();
        if file_path
            .extension()
            .is_none_or(|extension| extension != "rs")
        {
            continue;
        }
        let module_name = file_path.file_stem().unwrap().to_str().unwrap().to_owned();
        let source_text = fs::read_to_string(&file_path).unwrap();
        let function_names = source_text.split("fn ").skip(1);
        let function_names = function_names.filter_map(|after_fn| after_fn.split('(').next());
        test_names
            .extend(function_names.map(|function_name| format!("{module_name}::{function_name}")));
    }
    test_names
}

#[test]
fn tests_named_in_sources_md_exist() {
    let repository_root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut existing_tests = test_names_in(&repository_root.join("api-gateway/tests/e2e"));
    existing_tests.extend(test_names_in(
        &repository_root.join("order-worker/tests/domain"),
    ));
    let document_text = fs::read_to_string(repository_root.join("docs/SOURCES.md")).unwrap();
    let quoted_texts = document_text.split('`').skip(1).step_by(2);
    let named_tests: Vec<_> = quoted_texts
        .filter(|test_name| test_name.contains("::"))
        .collect();
    assert!(named_tests.len() > 80, "{}", named_tests.len());
    for test_name in named_tests
        .into_iter()
        .filter(|test_name| *test_name != "module::test")
    {
        assert!(
            existing_tests.contains(test_name),
            "the test {test_name} does not exist"
        );
    }
}
