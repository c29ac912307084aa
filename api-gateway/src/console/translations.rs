//! Compares the texts of the console's scripts with their German translations in `assets/de.js`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{ASSETS, SCRIPT_TYPE};

/// The entries of `de.js`. Those named `code:…` translate statuses and other machine-readable names.
fn german_texts() -> BTreeMap<String, Value> {
    let script = script("/console/de.js");
    let start = script.find("export default {").unwrap() + "export default ".len();
    let end = script.rfind("};").unwrap() + 1;
    serde_json::from_str(&script[start..end]).unwrap()
}

fn script(path: &str) -> &'static str {
    let asset = ASSETS.iter().find(|(known, ..)| *known == path);
    asset.unwrap().2
}

/// Texts that the scripts pass to `t` and `plural`. Texts with a number are known by their second form.
fn used_texts() -> BTreeSet<String> {
    let scripts = ASSETS
        .iter()
        .filter(|(path, kind, _)| *kind == SCRIPT_TYPE && *path != "/console/de.js");
    let mut texts = BTreeSet::new();
    for (_, _, script) in scripts {
        for (function, text_index) in [("t(", 0), ("plural(", 1)] {
            for call in calls(script, function) {
                texts.extend(string_literals(call).nth(text_index));
            }
        }
    }
    texts
}

/// The script's text after each call of `function` whose first argument may be a text.
fn calls<'a>(script: &'a str, function: &'a str) -> impl Iterator<Item = &'a str> {
    script
        .match_indices(function)
        .filter_map(move |(start, _)| {
            let is_whole_name = !script[..start].ends_with(|before: char| {
                before.is_alphanumeric() || matches!(before, '_' | '.' | '$')
            });
            let is_definition = script[..start].ends_with("function ");
            let arguments = &script[start + function.len()..];
            let has_text = function != "t(" || arguments.starts_with('"');
            (is_whole_name && !is_definition && has_text).then_some(arguments)
        })
}

fn string_literals(script: &str) -> impl Iterator<Item = String> {
    let mut rest = script;
    std::iter::from_fn(move || {
        let start = rest.find('"')?;
        let mut literals = serde_json::Deserializer::from_str(&rest[start..]).into_iter::<String>();
        let literal = literals.next()?.ok()?;
        rest = &rest[start + literals.byte_offset()..];
        Some(literal)
    })
}

fn placeholders(text: &str) -> BTreeSet<&str> {
    let after_braces = text.split('{').skip(1);
    after_braces
        .filter_map(|part| part.split_once('}').map(|(name, _)| name))
        .collect()
}

#[test]
fn every_text_has_a_german_translation_with_the_same_placeholders() {
    let german = german_texts();
    let used = used_texts();
    assert!(used.contains("Log out"), "no texts found: {used:?}");
    let missing: Vec<_> = used
        .iter()
        .filter(|text| !german.contains_key(*text))
        .collect();
    assert!(missing.is_empty(), "de.js lacks {missing:#?}");
    for (english, german) in &german {
        let forms = german
            .as_array()
            .map_or_else(|| vec![german], |forms| forms.iter().collect());
        for form in forms {
            let form = form.as_str().unwrap();
            let (expected, actual) = (placeholders(english), placeholders(form));
            let is_one_of_two_forms = german.is_array() && actual.is_subset(&expected);
            assert!(
                actual == expected || is_one_of_two_forms,
                "{english}: {form}"
            );
        }
    }
}

#[test]
fn every_translation_is_used() {
    let used = used_texts();
    let german = german_texts();
    let unused: Vec<_> = german
        .keys()
        .filter(|text| !text.starts_with("code:") && !used.contains(*text))
        .collect();
    assert!(
        unused.is_empty(),
        "de.js translates texts that no script shows: {unused:#?}"
    );
}
