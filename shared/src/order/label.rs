//! The label of a shipment, as a carrier returns it. Its values follow the same rules as those of
//! `shipment.create`, so that every reader of a shipment accepts them.

use super::request::{carrier, tracking_number};
use crate::{body::Fields, web_url::web_url_text};

/// A shipping label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Carrier.
    pub carrier: String,
    /// The carrier's tracking number.
    pub tracking_number: String,
    /// URL of the carrier's tracking page.
    pub tracking_url: Option<String>,
    /// URL of the label to print.
    pub label_url: Option<String>,
}

impl Label {
    /// Names of the fields that [`Label::read`] takes.
    pub const FIELDS: [&str; 4] = ["carrier", "tracking_number", "tracking_url", "label_url"];

    /// A label without URLs.
    pub fn new(carrier: impl Into<String>, tracking_number: impl Into<String>) -> Self {
        Self {
            carrier: carrier.into(),
            tracking_number: tracking_number.into(),
            tracking_url: None,
            label_url: None,
        }
    }

    /// Parses the reply of a carrier.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let carrier = fields.required("carrier", carrier);
        let tracking_number = fields.required("tracking_number", tracking_number);
        let tracking_url = fields.optional("tracking_url", web_url_text);
        let label_url = fields.optional("label_url", web_url_text);
        Some(Self {
            carrier: carrier?,
            tracking_number: tracking_number?,
            tracking_url,
            label_url,
        })
    }
}
