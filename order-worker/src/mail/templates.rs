//! Templates of messages: Jinja, by the crate minijinja. Each kind of message has a text part, `KIND.txt`, whose
//! first line is `Subject: …`, and an HTML part, `KIND.html`.
//!
//! A template is looked up in `MAIL_TEMPLATES/STOREFRONT/`, then in `MAIL_TEMPLATES/`, then among the built-in ones.
//! All are compiled and rendered with sample values at the start, so that a defect is found there and not when a
//! customer is waiting for the message. Values are escaped in HTML; a value that does not exist is an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value,
    syntax::SyntaxConfig,
    value::{Kwargs, Serde},
};
use shared::{
    id::Storefront,
    message::MessageKind,
    money::{Currency, Money},
};

use super::sample::sample_contents;
use crate::domain::message_content::MessageContent;

/// The built-in templates.
const BUILT_IN: [(&str, &str); 14] = [
    ("_layout.html", include_str!("templates/_layout.html")),
    ("_items.html", include_str!("templates/_items.html")),
    (
        "order_confirmed.txt",
        include_str!("templates/order_confirmed.txt"),
    ),
    (
        "order_confirmed.html",
        include_str!("templates/order_confirmed.html"),
    ),
    (
        "order_shipped.txt",
        include_str!("templates/order_shipped.txt"),
    ),
    (
        "order_shipped.html",
        include_str!("templates/order_shipped.html"),
    ),
    (
        "order_delivered.txt",
        include_str!("templates/order_delivered.txt"),
    ),
    (
        "order_delivered.html",
        include_str!("templates/order_delivered.html"),
    ),
    (
        "order_cancelled.txt",
        include_str!("templates/order_cancelled.txt"),
    ),
    (
        "order_cancelled.html",
        include_str!("templates/order_cancelled.html"),
    ),
    (
        "order_refunded.txt",
        include_str!("templates/order_refunded.txt"),
    ),
    (
        "order_refunded.html",
        include_str!("templates/order_refunded.html"),
    ),
    (
        "return_received.txt",
        include_str!("templates/return_received.txt"),
    ),
    (
        "return_received.html",
        include_str!("templates/return_received.html"),
    ),
];

/// The variables of templates.
const VARIABLES: [&str; 5] = ["order", "customer", "shipment", "refund", "return"];
/// Maximum length of a subject in characters.
const MAX_SUBJECT_CHARS: usize = 200;
/// Beginning of the first line of a text part.
const SUBJECT_PREFIX: &str = "Subject:";

/// The templates of all storefronts.
#[derive(Debug)]
pub struct Templates {
    /// For storefronts without templates of their own.
    common: Environment<'static>,
    by_storefront: BTreeMap<Storefront, Environment<'static>>,
}

/// A rendered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Subject: one line.
    pub subject: String,
    /// Text part.
    pub text: String,
    /// HTML part.
    pub html: String,
}

impl Templates {
    /// Loads the built-in templates and those in `folder`, and checks them.
    ///
    /// # Errors
    /// Names the file and the line of the first defect.
    pub fn load(folder: Option<&Path>) -> anyhow::Result<Self> {
        let mut common = new_environment();
        for (name, source) in BUILT_IN {
            add(&mut common, name, source.to_owned(), Path::new(name))?;
        }
        let mut by_storefront = BTreeMap::new();
        if let Some(folder) = folder {
            let storefronts = add_folder(&mut common, folder)?;
            for path in storefronts {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let storefront: Storefront = name.parse().map_err(|error| {
                    anyhow::anyhow!("{}: not the name of a storefront: {error}", path.display())
                })?;
                let mut environment = common.clone();
                if let Some(inner) = add_folder(&mut environment, &path)?.first() {
                    bail!("{}: unexpected folder", inner.display());
                }
                by_storefront.insert(storefront, environment);
            }
        }
        let templates = Self {
            common,
            by_storefront,
        };
        for environment in templates.by_storefront.values() {
            check(environment)?;
        }
        check(&templates.common)?;
        Ok(templates)
    }

    /// Renders a message.
    ///
    /// # Errors
    /// The file, the line and the reason.
    pub fn render(
        &self,
        storefront: &Storefront,
        kind: MessageKind,
        content: &MessageContent,
    ) -> Result<Rendered, String> {
        let environment = self.by_storefront.get(storefront);
        render(environment.unwrap_or(&self.common), kind, content)
    }
}

fn new_environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|name| {
        if has_extension(name, "html") {
            AutoEscape::Html
        } else {
            AutoEscape::None
        }
    });
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    if let Ok(syntax) = syntax {
        environment.set_syntax(syntax);
    }
    environment.add_filter("money", money);
    environment
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|found| found == extension)
}

/// Filter `amount | money(currency, group=",", decimal=".")`: `1,234.50 EUR`.
fn money(amount: i64, currency: &str, options: Kwargs) -> Result<String, Error> {
    let currency: Currency = currency
        .parse()
        .map_err(|error: String| Error::new(ErrorKind::InvalidOperation, error))?;
    let group: Option<&str> = options.get("group")?;
    let decimal: Option<&str> = options.get("decimal")?;
    options.assert_all_used()?;
    let amount =
        Money { amount, currency }.to_decimal(group.unwrap_or(","), decimal.unwrap_or("."));
    Ok(format!("{amount} {currency}"))
}

/// Adds the templates in `folder`, and returns its folders.
fn add_folder(
    environment: &mut Environment<'static>,
    folder: &Path,
) -> anyhow::Result<BTreeSet<PathBuf>> {
    let cant_read = || format!("can't read {}", folder.display());
    let (mut folders, mut files) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(folder).with_context(cant_read)? {
        let path = entry.with_context(cant_read)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            folders.insert(path);
        } else {
            files.insert(path);
        }
    }
    for path in files {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_built_in = BUILT_IN.iter().any(|(built_in, _)| *built_in == name);
        let is_part =
            name.starts_with('_') && (has_extension(&name, "html") || has_extension(&name, "txt"));
        if !is_built_in && !is_part {
            bail!(
                "{}: must be named after a kind of message, such as order_confirmed.html or order_confirmed.txt, \
                 or begin with _ and end with .html or .txt",
                path.display()
            );
        }
        let source =
            fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        add(environment, &name, source, &path)?;
    }
    Ok(folders)
}

fn add(
    environment: &mut Environment<'static>,
    name: &str,
    source: String,
    path: &Path,
) -> anyhow::Result<()> {
    let added = environment.add_template_owned(name.to_owned(), source);
    added.map_err(|error| anyhow::anyhow!("{}: {}", path.display(), describe(&error)))?;
    if name.starts_with('_') {
        // A part uses the variables of the templates that include it; it is checked by rendering these.
        return Ok(());
    }
    let template = environment.get_template(name)?;
    let unknown = template.undeclared_variables(false).into_iter();
    let unknown: BTreeSet<_> = unknown
        .filter(|variable| {
            !VARIABLES.contains(&variable.as_str())
                && !environment.globals().any(|(global, _)| global == variable)
        })
        .collect();
    if let Some(variable) = unknown.first() {
        let mut lines = template.source().lines();
        let line = lines.position(|line| line.contains(variable.as_str()));
        bail!(
            "{}: line {}: unknown variable {variable}: must be one of {}",
            path.display(),
            line.map_or(1, |index| index + 1),
            VARIABLES.join(", ")
        );
    }
    Ok(())
}

/// Renders every kind of message with sample values.
fn check(environment: &Environment<'_>) -> anyhow::Result<()> {
    for kind in MessageKind::ALL {
        for content in sample_contents(kind) {
            render(environment, kind, &content).map_err(|error| anyhow::anyhow!(error))?;
        }
    }
    Ok(())
}

fn render(
    environment: &Environment<'_>,
    kind: MessageKind,
    content: &MessageContent,
) -> Result<Rendered, String> {
    let values = Value::from(Serde(content));
    let part = |extension: &str| {
        let name = format!("{}.{extension}", kind.as_str());
        let template = environment.get_template(&name);
        let rendered = template.and_then(|template| template.render(values.clone()));
        rendered.map_err(|error| describe(&error))
    };
    let (text, html) = (part("txt")?, part("html")?);
    let (first_line, text) = text.split_once('\n').unwrap_or((&text, ""));
    let subject = first_line.strip_prefix(SUBJECT_PREFIX).ok_or_else(|| {
        format!(
            "{}.txt: line 1: must begin with {SUBJECT_PREFIX}",
            kind.as_str()
        )
    })?;
    Ok(Rendered {
        subject: one_line(subject).chars().take(MAX_SUBJECT_CHARS).collect(),
        text: text.trim_start().to_owned(),
        html,
    })
}

/// `text` without control characters, which could end a header, and without spaces at its ends.
pub(super) fn one_line(text: &str) -> String {
    let is_control = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.replace(is_control, " ").trim().to_owned()
}

/// File, line and reason of an error, in one line: those of its innermost cause.
fn describe(error: &Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source().and_then(|cause| cause.downcast_ref()) {
        innermost = cause;
    }
    let place = innermost.name().map_or_else(String::new, |name| {
        format!("{name}: line {}: ", innermost.line().unwrap_or(1))
    });
    let detail = innermost
        .detail()
        .map_or_else(String::new, |detail| format!(": {detail}"));
    format!("{place}{}{detail}", innermost.kind()).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_templates_render_every_kind_of_message() {
        let templates = Templates::load(None).unwrap();
        for kind in MessageKind::ALL {
            for content in sample_contents(kind) {
                let storefront = "eu".parse().unwrap();
                let rendered = templates.render(&storefront, kind, &content).unwrap();
                assert!(rendered.subject.contains("1001"), "{rendered:?}");
                assert!(!rendered.text.contains("none"), "{}", rendered.text);
                for part in [&rendered.text, &rendered.html] {
                    assert!(part.contains("Ada Lovelace"), "{part}");
                    assert!(!part.contains("undefined"), "{part}");
                }
            }
        }
    }

    #[test]
    fn values_are_escaped_in_html_only_and_subjects_have_one_line() {
        let mut environment = new_environment();
        for (name, source) in [
            (
                "order_delivered.txt",
                "Subject: {{ customer.name }}\n{{ customer.name }}",
            ),
            ("order_delivered.html", "{{ customer.name }}"),
        ] {
            add(&mut environment, name, source.to_owned(), Path::new(name)).unwrap();
        }
        let [mut content, _] = sample_contents(MessageKind::OrderDelivered);
        content.customer.name = "<b>\u{2028}Bcc: x".to_owned();
        let rendered = render(&environment, MessageKind::OrderDelivered, &content).unwrap();
        assert_eq!(rendered.subject, "<b> Bcc: x");
        assert_eq!(rendered.text, "<b>\u{2028}Bcc: x");
        assert_eq!(rendered.html, "&lt;b&gt;\u{2028}Bcc: x");
    }
}
