//! Races of two requests on one order, a few hundred of each kind: the requests reach two gateways at the same
//! moment and, on PostgreSQL, two workers. Whichever is first, the replies, the history, the money and the stock agree.
//!
//! `TEST_RACES` sets the number of races of each kind. Each test prints the seed of its random choices, which
//! `TEST_SEED` sets, and how often each outcome occurred.

mod race_shop;
mod settled_order;

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use self::{
    race_shop::{PRICE, PreparedOrder, RaceShop},
    settled_order::{SettledOrder, sequence_of},
};
use crate::harness::{Reply, send};

/// How often each outcome occurred, by the outcome and the variant of the race.
#[derive(Default)]
struct OutcomeCounts(BTreeMap<(&'static str, String), usize>);

impl OutcomeCounts {
    fn add(&mut self, outcome: &'static str, variant: String) {
        *self.0.entry((outcome, variant)).or_default() += 1;
    }

    /// Prints the counts, and checks that each of these outcomes occurred, and no other.
    #[track_caller]
    fn print_and_expect(&self, race_kind: &str, outcomes: &[&str]) {
        let race_count: usize = self.0.values().sum();
        eprintln!("{race_kind}: {race_count} races");
        for ((outcome, variant), count) in &self.0 {
            eprintln!("{count:6} {outcome}: {variant}");
        }
        for expected_outcome in outcomes {
            let mut occurred_outcomes = self.0.keys().map(|(outcome, _)| outcome);
            assert!(
                occurred_outcomes.any(|outcome| outcome == expected_outcome),
                "{race_kind}: {expected_outcome:?} never occurred"
            );
        }
    }
}

fn items_body(sku: &str, quantity: i64) -> Value {
    json!({"items": [{"sku": sku, "quantity": quantity}]})
}

/// The event that rejected an edit whose total had to be authorized; `None` if the edit took effect.
fn find_rejection_of_edit<'a>(order: &'a SettledOrder, edit_reply: &Reply) -> Option<&'a Value> {
    let is_edited = order
        .find_caused_event(edit_reply, "order.edited")
        .is_some();
    let rejection = order.events_of_type("order.edit_rejected").next();
    assert_eq!(
        is_edited,
        rejection.is_none(),
        "an edit is either in effect or rejected: {order:?}"
    );
    rejection
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shipping {
    /// `POST /shipments` of an operator.
    RequestOfOperator,
    /// The carrier's webhook about the whole order.
    WebhookOfOrder,
    /// The carrier's webhook about the shipment of the order's first label.
    WebhookOfShipment,
}

struct EditAndShipping {
    /// Quantity of A that the edit sets; it is 2 before.
    quantity: i64,
    shipping: Shipping,
    edit_reply: Reply,
    shipment_reply: Reply,
}

#[tokio::test]
async fn order_is_edited_or_shipped_first_and_ships_as_it_was_then() {
    let shop = RaceShop::start().await;
    let orders = shop.prepare_orders(2).await;
    let raced_orders = shop
        .run_races(orders, async |order| {
            let PreparedOrder {
                id,
                shipment_id,
                random,
            } = order;
            let quantity = [1, 3][random.random_below(2)];
            let shipping_kind = [
                Shipping::RequestOfOperator,
                Shipping::WebhookOfOrder,
                Shipping::WebhookOfShipment,
            ][random.random_below(3)];
            let mut event_data = json!({"order_id": id, "carrier": "DHL"});
            if shipping_kind == Shipping::WebhookOfShipment {
                event_data["shipment_id"] = json!(shipment_id);
            }
            let webhook = json!({"type": "shipment.shipped", "timestamp": "2026-01-31T12:00:00Z", "data": event_data});
            let shipping_request = match shipping_kind {
                Shipping::RequestOfOperator => {
                    shop.post_to_first(&format!("/v1/orders/{id}/shipments"), &json!({}))
                }
                Shipping::WebhookOfOrder | Shipping::WebhookOfShipment => {
                    shop.system.webhook_request(&format!("m-{id}"), &webhook)
                }
            };
            let edit_path = format!("/v1/orders/{id}/edit");
            let edit_request = shop.post_to_second(&edit_path, &items_body("A", quantity));
            let (shipment_reply, edit_reply) = shop.send_together(random, shipping_request, edit_request).await;
            EditAndShipping {
                quantity,
                shipping: shipping_kind,
                edit_reply,
                shipment_reply,
            }
        })
        .await;
    let mut counts = OutcomeCounts::default();
    for (order, race) in shop.settle(raced_orders).await {
        let (outcome, variant) = check_edit_and_shipping(&order, &race);
        let variant = format!("{:?}, quantity {}, {variant}", race.shipping, race.quantity);
        counts.add(outcome, variant);
    }
    counts.print_and_expect("edit and shipping", &["edited first", "shipped first"]);
}

fn check_edit_and_shipping(
    order: &SettledOrder,
    race: &EditAndShipping,
) -> (&'static str, &'static str) {
    let shipment_http_status = if race.shipping == Shipping::RequestOfOperator {
        201
    } else {
        200
    };
    let quantity = order.quantities()["A"];
    if race.edit_reply.status == 409 {
        order.expect_caused(
            &race.shipment_reply,
            shipment_http_status,
            "shipment.shipped",
        );
        order.expect_refused(&race.edit_reply, 409, "were shipped", "shipment.shipped");
        assert_eq!((quantity, order.status()), (2, "shipped"), "{order:?}");
        return ("shipped first", "the edit is refused");
    }
    let rejection = if race.quantity > 2 {
        order.expect_caused(&race.edit_reply, 202, "order.edit_requested");
        find_rejection_of_edit(order, &race.edit_reply)
    } else {
        order.expect_caused(&race.edit_reply, 200, "order.edited");
        None
    };
    let expected_quantity = if rejection.is_some() {
        2
    } else {
        race.quantity
    };
    assert_eq!(quantity, expected_quantity, "{order:?}");
    let shipped_units = order.shipped_units("A");
    if race.shipment_reply.status == 409 {
        match race.shipping {
            Shipping::RequestOfOperator => {
                order.expect_refused(
                    &race.shipment_reply,
                    409,
                    "pending edit",
                    "order.edit_requested",
                );
            }
            // More units than the order has now: the shipment of the first label was cancelled.
            Shipping::WebhookOfOrder | Shipping::WebhookOfShipment => {
                order.expect_refused(
                    &race.shipment_reply,
                    409,
                    "was cancelled",
                    "shipment.cancelled",
                );
                assert_eq!((race.shipping, quantity), (Shipping::WebhookOfShipment, 1));
            }
        }
        assert_eq!(
            (shipped_units, order.status(), rejection),
            (0, "processing", None)
        );
        return ("edited first", "the shipment is refused");
    }
    order.expect_caused(
        &race.shipment_reply,
        shipment_http_status,
        "shipment.shipped",
    );
    if let Some(rejection) = rejection {
        let rejection_by_shipment =
            order.expect_caused(&race.shipment_reply, 200, "order.edit_rejected");
        assert_eq!(rejection_by_shipment, rejection, "{order:?}");
        assert_eq!(rejection["data"]["reason"], "shipped", "{order:?}");
        assert_eq!((shipped_units, order.status()), (2, "shipped"), "{order:?}");
        return ("edited first", "the shipment rejects the pending edit");
    }
    // The carrier may have shipped under a label that the edit has replaced.
    let is_label_replaced = race.shipping == Shipping::WebhookOfShipment;
    let expected_units = if is_label_replaced { 2 } else { quantity };
    assert_eq!(shipped_units, expected_units, "{order:?}");
    ("edited first", "the edited order is shipped")
}

struct EditAndCancellation {
    /// Quantity of A that the edit sets; it is 2 before.
    quantity: i64,
    edit_reply: Reply,
    cancellation_reply: Reply,
}

#[tokio::test]
async fn order_is_cancelled_whether_its_edit_is_earlier_or_later() {
    let shop = RaceShop::start().await;
    let orders = shop.prepare_orders(2).await;
    let raced_orders = shop
        .run_races(orders, async |order| {
            let PreparedOrder { id, random, .. } = order;
            let quantity = [1, 3][random.random_below(2)];
            let cancellation_request =
                shop.post_to_first(&format!("/v1/orders/{id}/cancel"), &json!({}));
            let edit_path = format!("/v1/orders/{id}/edit");
            let edit_request = shop.post_to_second(&edit_path, &items_body("A", quantity));
            let (cancellation_reply, edit_reply) = shop
                .send_together(random, cancellation_request, edit_request)
                .await;
            EditAndCancellation {
                quantity,
                edit_reply,
                cancellation_reply,
            }
        })
        .await;
    let mut counts = OutcomeCounts::default();
    for (order, race) in shop.settle(raced_orders).await {
        let (outcome, variant) = check_edit_and_cancellation(&order, &race);
        counts.add(outcome, format!("quantity {}, {variant}", race.quantity));
    }
    counts.print_and_expect(
        "edit and cancellation",
        &["edited first", "cancelled first"],
    );
}

fn check_edit_and_cancellation(
    order: &SettledOrder,
    race: &EditAndCancellation,
) -> (&'static str, &'static str) {
    order.expect_caused(&race.cancellation_reply, 200, "order.cancelled");
    assert_eq!(order.status(), "cancelled", "{order:?}");
    let quantity = order.quantities()["A"];
    if race.edit_reply.status == 409 {
        order.expect_refused(&race.edit_reply, 409, "cancelled", "order.cancelled");
        assert_eq!(quantity, 2, "{order:?}");
        return ("cancelled first", "the edit is refused");
    }
    if race.quantity < 2 {
        order.expect_caused(&race.edit_reply, 200, "order.edited");
        assert_eq!(quantity, race.quantity, "{order:?}");
        return ("edited first", "the edited order is cancelled");
    }
    order.expect_caused(&race.edit_reply, 202, "order.edit_requested");
    let Some(rejection) = find_rejection_of_edit(order, &race.edit_reply) else {
        assert_eq!(quantity, race.quantity, "{order:?}");
        return ("edited first", "the edited order is cancelled");
    };
    let rejection_by_cancellation =
        order.expect_caused(&race.cancellation_reply, 200, "order.edit_rejected");
    assert_eq!(rejection_by_cancellation, rejection, "{order:?}");
    assert_eq!(rejection["data"]["reason"], "order_cancelled", "{order:?}");
    assert_eq!(quantity, 2, "{order:?}");
    ("edited first", "the cancellation rejects the pending edit")
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum ReturnStage {
    Requested,
    Approved,
    Received,
}

struct ReturnAndRefund {
    /// Stage of the return that competes with the refund.
    stage: ReturnStage,
    /// Returned units of the 2 that were shipped.
    returned_units: i64,
    is_refunded_by_amount: bool,
    return_request_reply: Reply,
    return_approval_reply: Reply,
    return_receipt_reply: Reply,
    refund_reply: Reply,
}

/// Amount of a refund that is requested by amount, in minor units.
const REFUND_AMOUNT: i64 = 1_500;

#[tokio::test]
async fn returns_and_refunds_refund_no_more_than_was_captured() {
    let shop = RaceShop::start().await;
    let orders = shop.prepare_shipped_orders(2).await;
    let raced_orders = shop
        .run_races(orders, async |order| {
            let PreparedOrder { id, random, .. } = order;
            let stage = [
                ReturnStage::Requested,
                ReturnStage::Approved,
                ReturnStage::Received,
                ReturnStage::Received,
            ][random.random_below(4)];
            let returned_units = [1, 2][random.random_below(2)];
            let is_refunded_by_amount = random.random_below(2) == 0;
            let refund_body = if is_refunded_by_amount {
                json!({"amount": REFUND_AMOUNT})
            } else {
                items_body("A", 2)
            };
            let mut refund_request =
                Some(shop.post_to_first(&format!("/v1/orders/{id}/refunds"), &refund_body));
            let mut refund_reply = None;
            let mut return_id = String::new();
            let mut replies = Vec::new();
            for next_stage in [
                ReturnStage::Requested,
                ReturnStage::Approved,
                ReturnStage::Received,
            ] {
                let (path, body) = match next_stage {
                    ReturnStage::Requested => (
                        format!("/v1/orders/{id}/returns"),
                        items_body("A", returned_units),
                    ),
                    ReturnStage::Approved => {
                        (format!("/v1/returns/{return_id}/approve"), json!({}))
                    }
                    ReturnStage::Received => (
                        format!("/v1/returns/{return_id}/receive"),
                        return_receipt_body(returned_units),
                    ),
                };
                let request = shop.post_to_second(&path, &body);
                let reply = if next_stage == stage {
                    let refund_request = refund_request.take().unwrap();
                    let (reply_to_refund, reply) =
                        shop.send_together(random, refund_request, request).await;
                    refund_reply = Some(reply_to_refund);
                    reply
                } else {
                    send(request).await
                };
                if next_stage == ReturnStage::Requested {
                    assert_eq!(reply.status, 201, "{}", reply.body);
                    reply.body["id"]
                        .as_str()
                        .unwrap()
                        .clone_into(&mut return_id);
                }
                replies.push(reply);
            }
            let [
                return_request_reply,
                return_approval_reply,
                return_receipt_reply,
            ] = <[Reply; 3]>::try_from(replies).unwrap();
            ReturnAndRefund {
                stage,
                returned_units,
                is_refunded_by_amount,
                return_request_reply,
                return_approval_reply,
                return_receipt_reply,
                refund_reply: refund_reply.unwrap(),
            }
        })
        .await;
    let mut counts = OutcomeCounts::default();
    for (order, race) in shop.settle(raced_orders).await {
        let outcome = check_return_and_refund(&order, &race);
        let refund_kind = if race.is_refunded_by_amount {
            "by amount"
        } else {
            "by items"
        };
        let (stage, returned_units) = (race.stage, race.returned_units);
        counts.add(
            outcome,
            format!("{stage:?}, {returned_units} returned, {refund_kind}"),
        );
    }
    counts.print_and_expect("return and refund", &["refunded first", "returned first"]);
}

fn return_receipt_body(quantity: i64) -> Value {
    json!({"items": [{"sku": "A", "quantity": quantity, "restock": true}]})
}

fn check_return_and_refund(order: &SettledOrder, race: &ReturnAndRefund) -> &'static str {
    let requested_event = order.expect_caused(&race.return_request_reply, 201, "return.requested");
    let approved_event = order.expect_caused(&race.return_approval_reply, 200, "return.approved");
    let received_event = order.expect_caused(&race.return_receipt_reply, 200, "return.received");
    assert_eq!(order.received_units("A"), race.returned_units, "{order:?}");
    let refund_of_return = received_event["data"]["refund_amount"].as_i64().unwrap();
    let refunded_amount = order.payment_amount("refunded");
    if race.refund_reply.status != 202 {
        assert_eq!(race.stage, ReturnStage::Received, "{order:?}");
        // Nothing is left to refund, or less than was requested.
        let status = if race.returned_units == 2 { 409 } else { 422 };
        order.expect_refused(&race.refund_reply, status, "refunded", "return.received");
        let returned_value = race.returned_units * PRICE;
        assert_eq!(
            (refund_of_return, refunded_amount),
            (returned_value, returned_value),
            "{order:?}"
        );
        return "returned first";
    }
    // The return is refunded with as much as the refund has left.
    let refund_event = order.expect_caused(&race.refund_reply, 202, "payment.refund_requested");
    assert!(
        sequence_of(refund_event) < sequence_of(received_event),
        "{order:?}"
    );
    let expected_amount = if race.is_refunded_by_amount {
        REFUND_AMOUNT
    } else {
        2 * PRICE
    };
    assert_eq!(refund_event["data"]["amount"], expected_amount, "{order:?}");
    let refund_of_rest = (2 * PRICE - expected_amount).min(race.returned_units * PRICE);
    assert_eq!(
        (refund_of_return, refunded_amount),
        (refund_of_rest, expected_amount + refund_of_rest),
        "{order:?}"
    );
    let raced_event = match race.stage {
        ReturnStage::Requested => requested_event,
        ReturnStage::Approved => approved_event,
        ReturnStage::Received => received_event,
    };
    if sequence_of(refund_event) < sequence_of(raced_event) {
        "refunded first"
    } else {
        "returned first"
    }
}

/// A product and the quantity that an edit sets.
type QuantityEdit = (&'static str, i64);

/// Two different edits, and the reply to each.
struct TwoEdits([(QuantityEdit, Reply); 2]);

#[tokio::test]
async fn second_edit_is_based_on_the_first_or_refused_while_it_is_pending() {
    const EDITS: [QuantityEdit; 4] = [("A", 1), ("A", 4), ("B", 1), ("B", 2)];
    let shop = RaceShop::start().await;
    let orders = shop.prepare_orders(2).await;
    let raced_orders = shop
        .run_races(orders, async |order| {
            let PreparedOrder { id, random, .. } = order;
            let edit_index = random.random_below(EDITS.len());
            let index_distance = 1 + random.random_below(EDITS.len() - 1);
            let first_edit = EDITS[edit_index];
            let second_edit = EDITS[(edit_index + index_distance) % EDITS.len()];
            let path = format!("/v1/orders/{id}/edit");
            let (first_reply, second_reply) = shop
                .send_together(
                    random,
                    shop.post_to_first(&path, &items_body(first_edit.0, first_edit.1)),
                    shop.post_to_second(&path, &items_body(second_edit.0, second_edit.1)),
                )
                .await;
            TwoEdits([(first_edit, first_reply), (second_edit, second_reply)])
        })
        .await;
    let mut counts = OutcomeCounts::default();
    for (order, race) in shop.settle(raced_orders).await {
        let TwoEdits([(first_edit, _), (second_edit, _)]) = &race;
        let mut edit_names =
            [first_edit, second_edit].map(|(sku, quantity)| format!("{sku} {quantity}"));
        edit_names.sort();
        counts.add(check_two_edits(&order, &race), edit_names.join(" and "));
    }
    counts.print_and_expect("two edits", &["both took effect", "one was refused"]);
}

fn check_two_edits(order: &SettledOrder, race: &TwoEdits) -> &'static str {
    let mut edited_quantities = Vec::new();
    for ((sku, quantity), reply) in &race.0 {
        match reply.status {
            409 => {
                order.expect_refused(reply, 409, "pending edit", "order.edit_requested");
                continue;
            }
            202 => {
                order.expect_caused(reply, 202, "order.edit_requested");
            }
            _ => {}
        }
        let status = reply.status.min(202);
        let edited_event = order.expect_caused(reply, status, "order.edited");
        assert!(matches!(status, 200 | 202), "{}", reply.body);
        edited_quantities.push((sequence_of(edited_event), *sku, *quantity));
    }
    edited_quantities.sort_unstable();
    let mut expected_quantities = BTreeMap::from([("A", 2)]);
    expected_quantities.extend(
        edited_quantities
            .iter()
            .map(|(_, sku, quantity)| (*sku, *quantity)),
    );
    assert_eq!(order.quantities(), expected_quantities, "{order:?}");
    assert_eq!(
        order.events_of_type("order.edited").count(),
        edited_quantities.len()
    );
    match edited_quantities.len() {
        2 => "both took effect",
        1 => "one was refused",
        _ => panic!("both edits were refused: {order:?}"),
    }
}

struct TwoReturns {
    return_request_replies: [Reply; 2],
    return_receipt_replies: [Reply; 2],
}

#[tokio::test]
async fn unit_is_returned_and_refunded_once() {
    let shop = RaceShop::start().await;
    let orders = shop.prepare_shipped_orders(1).await;
    let raced_orders = shop
        .run_races(orders, async |order| {
            let PreparedOrder { id, random, .. } = order;
            let (path, body) = (format!("/v1/orders/{id}/returns"), items_body("A", 1));
            let first_request = shop.post_to_first(&path, &body);
            let second_request = shop.post_to_second(&path, &body);
            let return_request_replies = <[Reply; 2]>::from(
                shop.send_together(random, first_request, second_request)
                    .await,
            );
            let accepted_reply = return_request_replies
                .iter()
                .find(|reply| reply.status == 201);
            let return_id = accepted_reply.unwrap().body["id"].as_str().unwrap();
            let approve_request =
                shop.post_to_first(&format!("/v1/returns/{return_id}/approve"), &json!({}));
            send(approve_request).await.expect(200);
            let path = format!("/v1/returns/{return_id}/receive");
            let first_request = shop.post_to_first(&path, &return_receipt_body(1));
            let second_request = shop.post_to_second(&path, &return_receipt_body(1));
            let return_receipt_replies = <[Reply; 2]>::from(
                shop.send_together(random, first_request, second_request)
                    .await,
            );
            TwoReturns {
                return_request_replies,
                return_receipt_replies,
            }
        })
        .await;
    let mut counts = OutcomeCounts::default();
    for (order, race) in shop.settle(raced_orders).await {
        let [first_reply, second_reply] = &race.return_request_replies;
        let (accepted_reply, refused_reply, outcome) = match first_reply.status {
            201 => (first_reply, second_reply, "first return accepted"),
            _ => (second_reply, first_reply, "second return accepted"),
        };
        order.expect_caused(accepted_reply, 201, "return.requested");
        order.expect_refused(refused_reply, 422, "open return", "return.requested");
        let [first_reply, second_reply] = &race.return_receipt_replies;
        let (accepted_reply, refused_reply, variant) = match first_reply.status {
            200 => (first_reply, second_reply, "first receipt accepted"),
            _ => (second_reply, first_reply, "second receipt accepted"),
        };
        order.expect_caused(accepted_reply, 200, "return.received");
        order.expect_refused(refused_reply, 409, "is received", "return.received");
        assert_eq!(order.received_units("A"), 1, "{order:?}");
        assert_eq!(order.payment_amount("refunded"), PRICE, "{order:?}");
        counts.add(outcome, variant.to_owned());
    }
    let outcomes = ["first return accepted", "second return accepted"];
    counts.print_and_expect("two returns", &outcomes);
}

/// Moment at which a pending edit is cancelled.
#[derive(Debug, Clone, Copy)]
enum CancelMoment {
    /// With the request to the provider, which responds at once.
    DuringRequest,
    /// While the slow provider has not responded yet.
    BeforeResponse,
    /// About when the slow provider responds.
    AroundResponse,
    /// After the edit took effect.
    AfterEdit,
}

struct EditAndItsCancellation {
    moment: CancelMoment,
    edit_reply: Reply,
    cancellation_reply: Reply,
}

#[tokio::test]
async fn pending_edit_is_cancelled_or_takes_effect() {
    let shop = RaceShop::start().await;
    let orders = shop.prepare_orders(2).await;
    let raced_orders = shop
        .run_races(orders, async |order| {
            let PreparedOrder { id, random, .. } = order;
            let (cancel_moment, payment_method) = match random.random_below(8) {
                0..=2 => (CancelMoment::DuringRequest, "pm_ok"),
                3 => (CancelMoment::BeforeResponse, "pm_slow"),
                4..=6 => (CancelMoment::AroundResponse, "pm_slow"),
                _ => (CancelMoment::AfterEdit, "pm_slow"),
            };
            let mut edit_body = items_body("A", 3);
            edit_body["payment_method"] = json!(payment_method);
            let edit_path = format!("/v1/orders/{id}/edit");
            let edit_reply = send(shop.post_to_first(&edit_path, &edit_body)).await;
            match cancel_moment {
                CancelMoment::DuringRequest => sleep_ms(random.random_below(100)).await,
                CancelMoment::BeforeResponse => {}
                // The sandbox responds after 3 s.
                CancelMoment::AroundResponse => sleep_ms(2_950 + random.random_below(400)).await,
                CancelMoment::AfterEdit => {
                    let is_edited = |order: &Value| order["total"] == 3 * PRICE;
                    shop.system.wait_for_order(id, "edited", is_edited).await;
                }
            }
            let cancellation_request =
                shop.post_to_second(&format!("{edit_path}/cancel"), &json!({}));
            let cancellation_reply = send(cancellation_request).await;
            EditAndItsCancellation {
                moment: cancel_moment,
                edit_reply,
                cancellation_reply,
            }
        })
        .await;
    let mut counts = OutcomeCounts::default();
    for (order, race) in shop.settle(raced_orders).await {
        let outcome = check_edit_and_its_cancellation(&order, &race);
        counts.add(outcome, format!("{:?}", race.moment));
    }
    let outcomes = ["cancelled first", "authorized first"];
    counts.print_and_expect("edit and its cancellation", &outcomes);
}

async fn sleep_ms(milliseconds: usize) {
    tokio::time::sleep(Duration::from_millis(milliseconds as u64)).await;
}

fn check_edit_and_its_cancellation(
    order: &SettledOrder,
    race: &EditAndItsCancellation,
) -> &'static str {
    order.expect_caused(&race.edit_reply, 202, "order.edit_requested");
    assert_eq!(order.status(), "processing", "{order:?}");
    let quantity_and_authorization = (
        order.quantities()["A"],
        order.payment_amount("authorized"),
        order.has_open_authorization(),
    );
    if race.cancellation_reply.status == 409 {
        order.expect_refused(
            &race.cancellation_reply,
            409,
            "taken effect",
            "order.edited",
        );
        assert!(
            find_rejection_of_edit(order, &race.edit_reply).is_none(),
            "{order:?}"
        );
        assert_eq!(
            quantity_and_authorization,
            (3, 3 * PRICE, true),
            "{order:?}"
        );
        return "authorized first";
    }
    let rejection = order.expect_caused(&race.cancellation_reply, 200, "order.edit_rejected");
    assert_eq!(rejection["data"]["reason"], "cancelled", "{order:?}");
    assert_eq!(
        find_rejection_of_edit(order, &race.edit_reply),
        Some(rejection)
    );
    assert_eq!(
        quantity_and_authorization,
        (2, 2 * PRICE, true),
        "{order:?}"
    );
    "cancelled first"
}
