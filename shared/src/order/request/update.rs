//! The request to change an order ([`UpdateOrder`]): its shipping address, metadata, note and tags.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::create::address_fields;
use crate::{
    body::{self, Fields},
    id::OrderId,
    limits::{MAX_METADATA_BYTES, MAX_NOTE_CHARS},
    order::{
        Address,
        tag::{self, Tag},
    },
    schema,
};

/// Members of an address to change; `None` removes one.
pub type AddressPatch = BTreeMap<String, Option<String>>;

/// `order.update`: a JSON Merge Patch (RFC 7396). Given values are changed, `null` removes a value, absent
/// values stay.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"shipping_address": {"line1": "Side Street 2"}, "metadata": {"cart": null}, "tags": ["vip"]}))]
pub struct UpdateOrder {
    /// Id of the order.
    #[schema(ignore)]
    pub id: OrderId,
    /// Members of the shipping address to change; `null` removes a member, and in place of the object the
    /// address. Refused once anything was shipped, and for a cancelled order. A label that has not shipped is
    /// withdrawn, and another one is requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::address_patch, required = false)]
    pub shipping_address: Option<Option<AddressPatch>>,
    /// Members of the metadata to change; `null` removes a member, and in place of the object all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::metadata, required = false)]
    pub metadata: Option<Option<Map<String, Value>>>,
    /// Note for operators; `null` or an empty text removes it. For operators and admins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::note, required = false)]
    pub note: Option<Option<String>>,
    /// All tags; `null` removes them. Letter case does not distinguish tags. For operators and admins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::tags, required = false)]
    pub tags: Option<Vec<Tag>>,
}

impl UpdateOrder {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", body::parsed);
        let shipping_address = fields.patch_nullable("shipping_address", address_patch);
        let metadata = fields.patch_nullable("metadata", body::object(MAX_METADATA_BYTES));
        let note = fields.patch_nullable("note", note);
        let tags = fields.patch_nullable("tags", tag::tags);
        Some(Self {
            id: id?,
            shipping_address,
            metadata,
            note: note.map(|note| note.filter(|note| !note.is_empty())),
            tags: tags.map(Option::unwrap_or_default),
        })
    }

    /// Applies the change of the address to `address`.
    ///
    /// # Errors
    /// The limit of addresses that the result exceeds.
    pub fn apply_to_address(&self, address: Option<&Address>) -> Result<Option<Address>, String> {
        let patch = match &self.shipping_address {
            None => return Ok(address.cloned()),
            Some(None) => return Ok(None),
            Some(Some(patch)) => patch,
        };
        let mut patched_address = address.cloned().unwrap_or_default();
        for (field_name, new_text) in patch {
            match new_text {
                Some(new_text) => patched_address.insert(field_name.clone(), new_text.clone()),
                None => patched_address.remove(field_name),
            };
        }
        super::create::check_address_size(patched_address.len())?;
        Ok(Some(patched_address))
    }
}

fn address_patch(value: Value) -> Result<AddressPatch, String> {
    address_fields(value)?.collect()
}

/// Free text, of several lines if need be.
fn note(value: Value) -> Result<String, String> {
    let note = body::string(value)?;
    if note.chars().count() > MAX_NOTE_CHARS {
        return Err(format!("must have at most {MAX_NOTE_CHARS} characters"));
    }
    let is_allowed = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    if note.chars().all(is_allowed) {
        Ok(note)
    } else {
        Err("must not contain control characters other than line breaks and tabs".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::Request;

    fn read(mut body: Value) -> Option<UpdateOrder> {
        body["id"] = json!("0192f0c1-0000-7abc-8def-0123456789ab");
        match Request::read("order.update", body) {
            Ok(Request::UpdateOrder(update)) => Some(update),
            _ => None,
        }
    }

    #[test]
    fn patch_distinguishes_absent_null_and_empty_values() {
        let update = read(json!({
            "shipping_address": {"city": "Köln", "line2": null}, "metadata": {"a": null},
            "note": "", "tags": null,
        }))
        .unwrap();
        assert_eq!((&update.note, &update.tags), (&Some(None), &Some(vec![])));
        let request = Request::UpdateOrder(update);
        let sent_body: Value = serde_json::from_str(request.to_body().unwrap().get()).unwrap();
        assert_eq!(
            sent_body["shipping_address"],
            json!({"city": "Köln", "line2": null})
        );
        assert_eq!(sent_body["metadata"], json!({"a": null}));
        assert_eq!(Request::read("order.update", sent_body), Ok(request));
        let unchanged_update = read(json!({})).unwrap();
        assert_eq!(unchanged_update.shipping_address, None);
        for invalid_body in [
            json!({"shipping_address": "Berlin"}),
            json!({"shipping_address": {"city": 1}}),
            json!({"metadata": []}),
            json!({"note": 1}),
            json!({"note": "a\u{7}"}),
            json!({"note": "x".repeat(MAX_NOTE_CHARS + 1)}),
            json!({"tags": "vip"}),
            json!({"tags": ["a,b"]}),
            json!({"status": "shipped"}),
        ] {
            assert!(read(invalid_body.clone()).is_none(), "{invalid_body}");
        }
        assert!(read(json!({"note": "two\nlines"})).is_some());
    }

    #[test]
    fn address_is_merged_as_in_rfc_7396() {
        let address = |value: Value| -> Address { serde_json::from_value(value).unwrap() };
        let update = read(json!({"shipping_address": {"city": "Köln", "line2": null}})).unwrap();
        let address_before = address(json!({"name": "Ada", "city": "Berlin", "line2": "c/o"}));
        assert_eq!(
            update.apply_to_address(Some(&address_before)),
            Ok(Some(address(json!({"name": "Ada", "city": "Köln"}))))
        );
        assert_eq!(
            update.apply_to_address(None),
            Ok(Some(address(json!({"city": "Köln"}))))
        );
        let removal = read(json!({"shipping_address": null})).unwrap();
        assert_eq!(removal.apply_to_address(Some(&address_before)), Ok(None));
        let full_address: Address = (0..20).map(|n| (format!("f{n}"), String::new())).collect();
        assert!(update.apply_to_address(Some(&full_address)).is_err());
    }
}
