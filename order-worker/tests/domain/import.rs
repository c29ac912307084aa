//! Reports of repeated imports: lines that the same request has imported before, and lines of other requests.

use order_worker::domain::command::{Action, Command, Idempotency, KeyOrigin};
use serde_json::{Value, json};
use shared::{body, id::OrderId, order::ImportedOrder};

use crate::shop::{Shop, operator};

impl Shop {
    /// Imports a line under an id that is derived from a key of this origin; returns the order and whether it is
    /// a duplicate. `message_key` is the key of the message, if the line is recorded under it.
    fn import_line(
        &mut self,
        line_json: &Value,
        id: OrderId,
        key_origin: KeyOrigin,
        message_key: Option<&str>,
    ) -> (OrderId, bool) {
        let idempotency = message_key.map(|message_key| Idempotency {
            key: format!("{message_key}/{id}"),
            fingerprint: String::new(),
            key_origin: KeyOrigin::Message,
            operation: None,
        });
        let order = body::read(line_json.clone(), ImportedOrder::read).unwrap();
        let command = Command::Request {
            caller: operator(),
            idempotency,
            if_match: None,
            action: Action::ImportOrder {
                id: Some(id),
                legacy_id: None,
                key_origin: Some(key_origin),
                order,
            },
        };
        let imported_order = self.carry_out(&command).outcome.unwrap().value();
        let is_duplicate = imported_order["is_duplicate"].as_bool().unwrap();
        let stored_id = imported_order["id"].as_str().unwrap();
        (stored_id.parse().unwrap(), is_duplicate)
    }

    fn line_of_one_unit(&self, external_id: Option<&str>) -> Value {
        json!({"customer_id": self.customer_id, "items": [{"sku": "A", "quantity": 1}],
               "external_id": external_id})
    }
}

/// The id derived from the key with this number.
fn derived_id(key_number: u8) -> OrderId {
    uuid::Builder::from_custom_bytes([key_number; 16])
        .into_uuid()
        .into()
}

#[test]
fn repeated_message_reports_its_own_orders_as_imported() {
    for external_id in [None, Some("x-1")] {
        let mut shop = Shop::with_stock(&[("A", "main", 10)]);
        let line = shop.line_of_one_unit(external_id);
        let id = derived_id(1);
        for _ in 0..2 {
            let imported_order = shop.import_line(&line, id, KeyOrigin::Message, None);
            assert_eq!(imported_order, (id, false));
        }
        assert_eq!(shop.working_set.orders.len(), 1);
    }
}

#[test]
fn order_with_the_external_id_of_another_message_is_a_duplicate() {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    let line = shop.line_of_one_unit(Some("x-1"));
    let id = derived_id(1);
    shop.import_line(&line, id, KeyOrigin::Message, None);
    for key_origin in [KeyOrigin::Message, KeyOrigin::FirstMessageDelivery] {
        let imported_order = shop.import_line(&line, derived_id(2), key_origin, None);
        assert_eq!(imported_order, (id, true));
    }
    assert_eq!(shop.working_set.orders.len(), 1);
}

#[test]
fn line_under_a_client_key_is_a_duplicate_except_in_a_repeated_message() {
    for external_id in [None, Some("x-1")] {
        let mut shop = Shop::with_stock(&[("A", "main", 10)]);
        let line = shop.line_of_one_unit(external_id);
        let id = derived_id(1);
        for (message_key, is_duplicate) in [
            (Some("first"), false),
            (Some("first"), false),
            (Some("second"), true),
            (Some("second"), true),
            (Some("first"), false),
            (None, true),
        ] {
            let imported_order = shop.import_line(&line, id, KeyOrigin::Client, message_key);
            assert_eq!(imported_order, (id, is_duplicate), "{message_key:?}");
        }
        assert_eq!(shop.working_set.orders.len(), 1);
    }
}

#[test]
fn first_delivery_with_a_used_correlation_id_creates_another_order() {
    let mut shop = Shop::with_stock(&[("A", "main", 10)]);
    let line = shop.line_of_one_unit(None);
    let id = derived_id(1);
    let first_outcome = shop.import_line(&line, id, KeyOrigin::FirstMessageDelivery, None);
    assert_eq!(first_outcome, (id, false));
    let (other_id, is_duplicate) =
        shop.import_line(&line, id, KeyOrigin::FirstMessageDelivery, None);
    assert!(other_id != id && !is_duplicate);
    let repeated_outcome = shop.import_line(&line, id, KeyOrigin::Message, None);
    assert_eq!(repeated_outcome, (id, false));
    assert_eq!(shop.working_set.orders.len(), 2);
}
