//! The data of `order.updated`, and which part of it storefronts see.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::CloudEvent;
use crate::{
    id::Warehouse,
    order::{Address, Tag},
    outcome::{Failure, Json},
};

/// Name of the event type.
const EVENT_TYPE: &str = "order.updated";

/// Changed fields of an order with their values after the change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OrderUpdated {
    /// The changed fields. A changed field without a value was removed, or erased since.
    pub changed: Vec<OrderField>,
    /// Shipping address after the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipping_address: Option<Address>,
    /// Metadata after the change.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// Note after the change; for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Tags after the change; for operators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// Warehouses whose label, requested for the earlier address, is withdrawn and replaced by another one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced_labels: Vec<Warehouse>,
}

/// A field of an order that can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderField {
    /// The shipping address.
    ShippingAddress,
    /// The metadata.
    Metadata,
    /// The note.
    Note,
    /// The tags.
    Tags,
}

impl OrderUpdated {
    /// The data without what is for operators.
    pub(super) fn hide_internal_fields(&mut self) {
        self.changed
            .retain(|field| !matches!(field, OrderField::Note | OrderField::Tags));
        self.note = None;
        self.tags = Vec::new();
    }
}

impl CloudEvent {
    /// The event as storefronts see it: see [`Event::for_storefronts`](super::Event::for_storefronts).
    ///
    /// # Errors
    /// `INTERNAL` if its data can't be serialized, which does not happen.
    pub fn for_storefronts(mut self) -> Result<Self, Failure> {
        if has_internal_fields(&self.kind) {
            // Data that can't be parsed is hidden completely.
            let mut order_updated: OrderUpdated =
                serde_json::from_str(self.data.text()).unwrap_or_default();
            order_updated.hide_internal_fields();
            self.data = Json::of(&order_updated)?;
        }
        Ok(self)
    }
}

/// Whether events of this type can have fields that storefronts do not see.
pub fn has_internal_fields(kind: &str) -> bool {
    kind == EVENT_TYPE
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn storefronts_see_neither_note_nor_tags() {
        let event = |data: Value| -> CloudEvent {
            serde_json::from_value(json!({
                "specversion": "1.0", "id": "01a205f2-115c-7001-8d8a-8446d457e742", "source": "/orders",
                "type": EVENT_TYPE, "subject": "01a205f2-115c-7001-8d8a-8446d457e743",
                "time": "2026-01-31T12:00:00Z", "datacontenttype": "application/json", "sequence": "1",
                "actor": "a", "intent": "i", "requestid": "r", "data": data,
            }))
            .unwrap()
        };
        for (data, shown_data) in [
            (
                json!({"changed": ["metadata", "note", "tags"], "metadata": {"a": 1}, "note": "x", "tags": ["y"]}),
                json!({"changed": ["metadata"], "metadata": {"a": 1}}),
            ),
            (
                json!({"changed": ["note"], "note": "x"}),
                json!({"changed": []}),
            ),
            (json!({"note": "x", "changed": 7}), json!({"changed": []})),
        ] {
            assert_eq!(
                event(data).for_storefronts().unwrap().data.value(),
                shown_data
            );
        }
        let mut cancelled_event = event(json!({"note": "changed my mind"}));
        cancelled_event.kind = "order.cancelled".to_owned();
        assert_eq!(
            cancelled_event.clone().for_storefronts(),
            Ok(cancelled_event)
        );
    }
}
