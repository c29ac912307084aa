//! Templates of messages: Jinja, by the crate minijinja. Each kind of message has a text part, `KIND.txt`, whose
//! first line is `Subject: …`, and an HTML part, `KIND.html`.
//!
//! A template is looked up in `MAIL_TEMPLATES/STOREFRONT/`, then in `MAIL_TEMPLATES/`, then among the built-in
//! ones. All are compiled and rendered with sample values at the start, so that a defect is found there and not
//! when a customer is waiting for the message. Values are escaped in HTML; a value that does not exist is an
//! error.

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
    common_environment: Environment<'static>,
    environments_by_storefront: BTreeMap<Storefront, Environment<'static>>,
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
        let mut common_environment = new_environment();
        for (template_name, template_source) in BUILT_IN {
            add_template(
                &mut common_environment,
                template_name,
                template_source.to_owned(),
                Path::new(template_name),
            )?;
        }
        let mut environments_by_storefront = BTreeMap::new();
        if let Some(folder) = folder {
            let storefront_folders = add_folder(&mut common_environment, folder)?;
            for folder in storefront_folders {
                let folder_name = folder.file_name().unwrap_or_default().to_string_lossy();
                let storefront: Storefront = folder_name.parse().map_err(|error| {
                    anyhow::anyhow!(
                        "{}: not the name of a storefront: {error}",
                        folder.display()
                    )
                })?;
                let mut storefront_environment = common_environment.clone();
                if let Some(inner_folder) =
                    add_folder(&mut storefront_environment, &folder)?.first()
                {
                    bail!("{}: unexpected folder", inner_folder.display());
                }
                environments_by_storefront.insert(storefront, storefront_environment);
            }
        }
        let templates = Self {
            common_environment,
            environments_by_storefront,
        };
        for environment in templates.environments_by_storefront.values() {
            check_templates(environment)?;
        }
        check_templates(&templates.common_environment)?;
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
        let environment = self.environments_by_storefront.get(storefront);
        render(
            environment.unwrap_or(&self.common_environment),
            kind,
            content,
        )
    }
}

fn new_environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|template_name| {
        if has_extension(template_name, "html") {
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
    environment.add_filter("money", format_money);
    environment
}

fn has_extension(template_name: &str, extension: &str) -> bool {
    Path::new(template_name)
        .extension()
        .is_some_and(|found_extension| found_extension == extension)
}

/// Filter `amount | money(currency, group=",", decimal=".")`: `1,234.50 EUR`.
fn format_money(amount: i64, currency_code: &str, options: Kwargs) -> Result<String, Error> {
    let currency: Currency = currency_code.parse().map_err(|currency_error: String| {
        Error::new(ErrorKind::InvalidOperation, currency_error)
    })?;
    let group_separator: Option<&str> = options.get("group")?;
    let decimal_separator: Option<&str> = options.get("decimal")?;
    options.assert_all_used()?;
    let amount_text = Money { amount, currency }.to_decimal(
        group_separator.unwrap_or(","),
        decimal_separator.unwrap_or("."),
    );
    Ok(format!("{amount_text} {currency}"))
}

/// Adds the templates in `folder`, and returns its folders.
fn add_folder(
    environment: &mut Environment<'static>,
    folder: &Path,
) -> anyhow::Result<BTreeSet<PathBuf>> {
    let read_error_text = || format!("can't read {}", folder.display());
    let (mut folders, mut files) = (BTreeSet::new(), BTreeSet::new());
    for folder_entry in fs::read_dir(folder).with_context(read_error_text)? {
        let entry_path = folder_entry.with_context(read_error_text)?.path();
        let entry_name = entry_path.file_name().unwrap_or_default().to_string_lossy();
        if entry_name.starts_with('.') {
            continue;
        }
        if entry_path.is_dir() {
            folders.insert(entry_path);
        } else {
            files.insert(entry_path);
        }
    }
    for template_path in files {
        let file_name = template_path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_built_in = BUILT_IN.iter().any(|(built_in, _)| *built_in == file_name);
        let is_part = file_name.starts_with('_')
            && (has_extension(&file_name, "html") || has_extension(&file_name, "txt"));
        if !is_built_in && !is_part {
            bail!(
                "{}: must be named after a kind of message, such as order_confirmed.html or order_confirmed.txt, \
                 or begin with _ and end with .html or .txt",
                template_path.display()
            );
        }
        let template_source = fs::read_to_string(&template_path)
            .with_context(|| format!("can't read {}", template_path.display()))?;
        add_template(environment, &file_name, template_source, &template_path)?;
    }
    Ok(folders)
}

fn add_template(
    environment: &mut Environment<'static>,
    template_name: &str,
    template_source: String,
    template_path: &Path,
) -> anyhow::Result<()> {
    let add_result = environment.add_template_owned(template_name.to_owned(), template_source);
    add_result
        .map_err(|error| anyhow::anyhow!("{}: {}", template_path.display(), describe(&error)))?;
    if template_name.starts_with('_') {
        // A part uses the variables of the templates that include it; it is checked by rendering these.
        return Ok(());
    }
    let template = environment.get_template(template_name)?;
    let unknown_variables = template.undeclared_variables(false).into_iter();
    let unknown_variables: BTreeSet<_> = unknown_variables
        .filter(|variable| {
            !VARIABLES.contains(&variable.as_str())
                && !environment.globals().any(|(global, _)| global == variable)
        })
        .collect();
    if let Some(variable) = unknown_variables.first() {
        let mut lines = template.source().lines();
        let line_index = lines.position(|line| line.contains(variable.as_str()));
        bail!(
            "{}: line {}: unknown variable {variable}: must be one of {}",
            template_path.display(),
            line_index.map_or(1, |index| index + 1),
            VARIABLES.join(", ")
        );
    }
    Ok(())
}

/// Renders every kind of message with sample values.
fn check_templates(environment: &Environment<'_>) -> anyhow::Result<()> {
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
    let template_values = Value::from(Serde(content));
    let render_part = |extension: &str| {
        let template_name = format!("{}.{extension}", kind.as_str());
        let template = environment.get_template(&template_name);
        let render_result = template.and_then(|template| template.render(template_values.clone()));
        render_result.map_err(|error| describe(&error))
    };
    let (text, html) = (render_part("txt")?, render_part("html")?);
    let (first_line, text) = text.split_once('\n').unwrap_or((&text, ""));
    let subject = first_line.strip_prefix(SUBJECT_PREFIX).ok_or_else(|| {
        format!(
            "{}.txt: line 1: must begin with {SUBJECT_PREFIX}",
            kind.as_str()
        )
    })?;
    Ok(Rendered {
        subject: join_lines(subject)
            .chars()
            .take(MAX_SUBJECT_CHARS)
            .collect(),
        text: text.trim_start().to_owned(),
        html,
    })
}

/// `text` without control characters, which could end a header, and without spaces at its ends.
pub(super) fn join_lines(text: &str) -> String {
    let is_control = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.replace(is_control, " ").trim().to_owned()
}

/// File, line and reason of an error, in one line: those of its innermost cause.
fn describe(error: &Error) -> String {
    let mut source_error = error;
    while let Some(cause) = source_error.source().and_then(|cause| cause.downcast_ref()) {
        source_error = cause;
    }
    let error_place = source_error
        .name()
        .map_or_else(String::new, |template_name| {
            format!(
                "{template_name}: line {}: ",
                source_error.line().unwrap_or(1)
            )
        });
    let detail = source_error
        .detail()
        .map_or_else(String::new, |detail| format!(": {detail}"));
    format!("{error_place}{}{detail}", source_error.kind()).replace('\n', " ")
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
                let rendered_message = templates.render(&storefront, kind, &content).unwrap();
                assert!(
                    rendered_message.subject.contains("1001"),
                    "{rendered_message:?}"
                );
                assert!(
                    !rendered_message.text.contains("none"),
                    "{}",
                    rendered_message.text
                );
                for rendered_part in [&rendered_message.text, &rendered_message.html] {
                    assert!(rendered_part.contains("Ada Lovelace"), "{rendered_part}");
                    assert!(!rendered_part.contains("undefined"), "{rendered_part}");
                }
            }
        }
    }

    #[test]
    fn values_are_escaped_in_html_only_and_subjects_have_one_line() {
        let mut environment = new_environment();
        for (template_name, template_source) in [
            (
                "order_delivered.txt",
                "Subject: {{ customer.name }}\n{{ customer.name }}",
            ),
            ("order_delivered.html", "{{ customer.name }}"),
        ] {
            add_template(
                &mut environment,
                template_name,
                template_source.to_owned(),
                Path::new(template_name),
            )
            .unwrap();
        }
        let [mut content, _] = sample_contents(MessageKind::OrderDelivered);
        content.customer.name = "<b>\u{2028}Bcc: x".to_owned();
        let rendered_message = render(&environment, MessageKind::OrderDelivered, &content).unwrap();
        assert_eq!(rendered_message.subject, "<b> Bcc: x");
        assert_eq!(rendered_message.text, "<b>\u{2028}Bcc: x");
        assert_eq!(rendered_message.html, "&lt;b&gt;\u{2028}Bcc: x");
    }
}
