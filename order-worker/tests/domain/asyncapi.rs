//! docs/asyncapi.json agrees with the code.

use std::collections::BTreeSet;

use order_worker::domain::step::Step;
use serde_json::{Value, json};
use shared::{
    amqp::topology::{DEAD_LETTER_QUEUE, EVENTS_EXCHANGE, REQUEST_QUEUE, STEP_QUEUE},
    event::{EventData, is_for_admins},
    id::Warehouse,
    request::Request,
};

fn document() -> Value {
    let document_path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/asyncapi.json");
    serde_json::from_str(&std::fs::read_to_string(document_path).unwrap()).unwrap()
}

fn text_set<'a>(text_values: impl Iterator<Item = &'a Value>) -> BTreeSet<String> {
    text_values
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// All event types, as listed in serde's error message.
fn event_types() -> BTreeSet<String> {
    let unknown_event = json!({"type": "?", "data": {}});
    let error_text = serde_json::from_value::<EventData>(unknown_event)
        .unwrap_err()
        .to_string();
    let type_names = error_text.split('`').skip(3).step_by(2);
    type_names.map(str::to_owned).collect()
}

#[test]
fn asyncapi_lists_all_queues_and_exchanges() {
    let document = document();
    let channels = document["channels"].as_object().unwrap();
    let channel_addresses = [
        REQUEST_QUEUE,
        STEP_QUEUE,
        DEAD_LETTER_QUEUE,
        EVENTS_EXCHANGE,
    ];
    assert_eq!(
        text_set(channels.values().map(|channel| &channel["address"])),
        channel_addresses.map(str::to_owned).into()
    );
}

#[test]
fn asyncapi_lists_all_event_types() {
    let document = document();
    let messages = &document["components"]["messages"];
    let event_messages = document["channels"]["events"]["messages"]
        .as_object()
        .unwrap();
    let published_names = text_set(event_messages.keys().map(|name| &messages[name]["name"]));
    let (admin_types, public_types): (BTreeSet<_>, BTreeSet<_>) = event_types()
        .into_iter()
        .partition(|event_type| is_for_admins(event_type));
    assert_eq!(published_names, public_types);
    let described_names = text_set(
        messages
            .as_object()
            .unwrap()
            .values()
            .map(|message| &message["name"]),
    );
    assert!(described_names.is_superset(&admin_types));
    let event_kinds = EventData::KINDS.iter().map(|kind| (*kind).to_owned());
    assert_eq!(event_kinds.collect::<BTreeSet<_>>(), event_types());
    assert!(published_names.len() > 30);
}

#[test]
fn asyncapi_lists_all_request_patterns() {
    let document = document();
    let patterns = document["components"]["schemas"]["Pattern"]["oneOf"]
        .as_array()
        .unwrap();
    assert_eq!(
        text_set(patterns.iter().map(|pattern| &pattern["const"])),
        Request::PATTERNS
            .iter()
            .map(|pattern| (*pattern).to_owned())
            .collect()
    );
}

#[test]
fn asyncapi_lists_all_steps() {
    let document = document();
    let pattern = &document["components"]["schemas"]["Step"]["properties"]["step"]["pattern"];
    let named_steps: BTreeSet<&str> = pattern
        .as_str()
        .unwrap()
        .split(|c: char| !c.is_ascii_lowercase() && c != '_')
        .filter(|word| !word.is_empty())
        .collect();
    let warehouse: Warehouse = "w".parse().unwrap();
    let steps = [
        Step::AuthorizePayment,
        Step::CapturePayment,
        Step::VoidPayment,
        Step::RefundPayment,
        Step::CheckPayment,
        Step::ReserveStock,
        Step::RequestShipment(warehouse.clone().into()),
        Step::CancelShipment(warehouse.into()),
        Step::ExpireOrder,
        Step::AuthorizeEdit(1),
        Step::VoidAuthorization(0),
        Step::ExpireEdit(1),
    ];
    assert_eq!(named_steps, steps.iter().map(Step::kind).collect());
}
