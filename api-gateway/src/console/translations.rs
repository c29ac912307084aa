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
    let asset = ASSETS.iter().find(|(asset_path, ..)| *asset_path == path);
    asset.unwrap().2
}

/// Texts that the scripts pass to `t` and `plural`. Texts with a number are known by their second form.
fn used_texts() -> BTreeSet<String> {
    let scripts = ASSETS.iter().filter(|(path, content_type, _)| {
        *content_type == SCRIPT_TYPE && *path != "/console/de.js"
    });
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
    let mut remaining_script = script;
    std::iter::from_fn(move || {
        let start = remaining_script.find('"')?;
        let mut literals =
            serde_json::Deserializer::from_str(&remaining_script[start..]).into_iter::<String>();
        let literal = literals.next()?.ok()?;
        remaining_script = &remaining_script[start + literals.byte_offset()..];
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
    let translations = german_texts();
    let shown_texts = used_texts();
    assert!(
        shown_texts.contains("Log out"),
        "no texts found: {shown_texts:?}"
    );
    let missing_texts: Vec<_> = shown_texts
        .iter()
        .filter(|text| !translations.contains_key(*text))
        .collect();
    assert!(missing_texts.is_empty(), "de.js lacks {missing_texts:#?}");
    for (english_text, translation) in &translations {
        let german_forms = translation
            .as_array()
            .map_or_else(|| vec![translation], |forms| forms.iter().collect());
        for german_form in german_forms {
            let german_form = german_form.as_str().unwrap();
            let english_placeholders = placeholders(english_text);
            let german_placeholders = placeholders(german_form);
            let is_one_of_two_forms =
                translation.is_array() && german_placeholders.is_subset(&english_placeholders);
            assert!(
                german_placeholders == english_placeholders || is_one_of_two_forms,
                "{english_text}: {german_form}"
            );
        }
    }
}

#[test]
fn every_translation_is_used() {
    let shown_texts = used_texts();
    let translations = german_texts();
    let unused_texts: Vec<_> = translations
        .keys()
        .filter(|text| !text.starts_with("code:") && !shown_texts.contains(*text))
        .collect();
    assert!(
        unused_texts.is_empty(),
        "de.js translates texts that no script shows: {unused_texts:#?}"
    );
}
