//! Shipments: which of them an update is about, when it happened, and what operators do to them.

use order_worker::domain::{order::Order, step::Step};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use shared::{
    id::OrderId,
    order::{OrderStatus, PaymentStatus, Shipment, ShipmentStatus, ShipmentUpdate},
    outcome::{Code, Failure},
};

use crate::shop::{ProviderEvent, ProviderMode, Shop};

impl Shop {
    fn ship(&mut self, id: OrderId, body: Value) -> Result<Value, Failure> {
        let mut body = body;
        body["id"] = json!(id);
        self.ask("shipment.create", body)
    }

    fn told(&mut self, id: OrderId, kind: &str, named: Value) -> Result<Value, Failure> {
        let mut body = named;
        body["order_id"] = json!(id);
        body["type"] = json!(format!("shipment.{kind}"));
        if body.get("timestamp").is_none() {
            body["timestamp"] = json!("2020-01-31T12:00:00Z");
        }
        self.ask("shipment.update", body)
    }

    fn statuses(&self, id: OrderId) -> Vec<(String, ShipmentStatus)> {
        let shipments = self.world.orders[&id].shipments.iter();
        shipments
            .map(|one| (one.tracking_number.clone(), one.status))
            .collect()
    }

    fn only(&self, id: OrderId) -> &Order {
        &self.world.orders[&id]
    }

    fn shelf(&self, sku: &str, warehouse: &str) -> (i64, i64) {
        let shelf = self.world.stock_levels[&sku.parse().unwrap()][&warehouse.parse().unwrap()];
        (shelf.on_hand, shelf.reserved)
    }
}

/// An order of which one part left as TA and the other as TB.
fn two_shipments(shop: &mut Shop) -> OrderId {
    let id = shop.order(&[("A", 2), ("B", 1)]).unwrap();
    shop.settle();
    for (sku, quantity, number) in [("A", 2, "TA"), ("B", 1, "TB")] {
        let items = json!([{"sku": sku, "quantity": quantity}]);
        let body = json!({"items": items, "tracking_number": number});
        shop.ship(id, body).unwrap();
    }
    shop.settle();
    id
}

fn stocked() -> Shop {
    Shop::with_stock(&[("A", "east", 9), ("B", "west", 9)])
}

#[test]
fn an_update_about_an_unknown_shipment_or_number_changes_nothing() {
    let mut shop = stocked();
    let id = two_shipments(&mut shop);
    let before = shop.only(id).clone();
    let other = two_shipments(&mut shop);
    let foreign = shop.only(other).shipments[0].id;
    for update in ShipmentUpdate::ALL {
        let kind = update.as_str().strip_prefix("shipment.").unwrap();
        for named in [
            json!({"tracking_number": "TX"}),
            json!({"tracking_number": "ta"}),
            json!({"shipment_id": foreign}),
        ] {
            let failure = shop.told(id, kind, named.clone()).unwrap_err();
            assert_eq!(failure.code, Code::NotFound, "{kind} {named}: {failure}");
        }
        // A number beside an id is not another shipment's.
        let left = before.shipped_shipments().next().unwrap();
        let named = json!({"shipment_id": left.id, "tracking_number": "TB"});
        let failure = shop.told(id, kind, named).unwrap_err();
        assert_eq!(failure.code, Code::InvalidRequest, "{kind}: {failure}");
    }
    assert_eq!(*shop.only(id), before);
}

#[test]
fn a_number_that_several_shipments_share_means_all_of_them_and_no_other() {
    let mut shop = Shop::with_stock(&[("A", "east", 9), ("B", "west", 9), ("C", "north", 9)]);
    let id = shop.order(&[("A", 1), ("B", 1), ("C", 1)]).unwrap();
    shop.settle();
    for (sku, number) in [("A", "T1"), ("B", "T1"), ("C", "T2")] {
        let items = json!([{"sku": sku, "quantity": 1}]);
        shop.ship(id, json!({"items": items, "tracking_number": number}))
            .unwrap();
    }
    shop.settle();
    shop.told(id, "delivered", json!({"tracking_number": "T1"}))
        .unwrap();
    let with = |number: &str| -> Vec<ShipmentStatus> {
        let all = shop.statuses(id).into_iter();
        all.filter(|(other, _)| other == number)
            .map(|(_, status)| status)
            .collect()
    };
    assert_eq!(with("T1"), [ShipmentStatus::Delivered; 2]);
    assert_eq!(with("T2"), [ShipmentStatus::Shipped]);
    shop.told(id, "delivered", json!({"tracking_number": "T2"}))
        .unwrap();
    assert_eq!(shop.only(id).status, OrderStatus::Delivered);
}

#[test]
fn what_has_no_label_yet_leaves_under_a_number_that_is_new() {
    let mut shop = stocked();
    let id = shop.order(&[("A", 3)]).unwrap();
    shop.settle();
    let part = json!({"items": [{"sku": "A", "quantity": 1}], "tracking_number": "TA"});
    shop.ship(id, part).unwrap();
    shop.settle();
    // The rest waits without a label. Nobody can have delivered it, or brought it back.
    for kind in [
        "in_transit",
        "out_for_delivery",
        "delivered",
        "failed",
        "returned",
    ] {
        let named = json!({"tracking_number": "TX"});
        let failure = shop.told(id, kind, named).unwrap_err();
        assert_eq!(failure.code, Code::NotFound, "{kind}");
    }
    shop.told(id, "shipped", json!({"tracking_number": "TX"}))
        .unwrap();
    let statuses = shop.statuses(id);
    assert!(statuses.contains(&("TX".to_owned(), ShipmentStatus::Shipped)));
    assert_eq!(shop.only(id).status, OrderStatus::Shipped);
    shop.told(id, "delivered", json!({"tracking_number": "TX"}))
        .unwrap();
    let statuses = shop.statuses(id);
    assert!(statuses.contains(&("TA".to_owned(), ShipmentStatus::Shipped)));
    assert!(statuses.contains(&("TX".to_owned(), ShipmentStatus::Delivered)));
    shop.settle();
    shop.check_settled();
}

#[test]
fn what_comes_back_of_the_whole_order_is_what_has_left() {
    let mut shop = stocked();
    let id = shop.order(&[("A", 2), ("B", 1)]).unwrap();
    shop.settle();
    let before = shop.only(id).clone();
    for kind in ["returned", "failed"] {
        let failure = shop.told(id, kind, json!({})).unwrap_err();
        assert_eq!(failure.code, Code::InvalidRequest, "{failure}");
    }
    assert_eq!(*shop.only(id), before);
    let part = json!({"items": [{"sku": "A", "quantity": 2}], "tracking_number": "TA"});
    shop.ship(id, part).unwrap();
    shop.told(id, "returned", json!({})).unwrap();
    let statuses = shop.statuses(id);
    let count = |wanted| {
        statuses
            .iter()
            .filter(|(_, status)| *status == wanted)
            .count()
    };
    assert_eq!(count(ShipmentStatus::Returned), 1);
    assert_eq!(count(ShipmentStatus::LabelCreated), 1);
    assert_eq!(
        (shop.shelf("A", "east"), shop.shelf("B", "west")),
        ((9, 0), (9, 1))
    );
}

#[test]
fn the_shippers_time_counts_within_reason() {
    let mut shop = stocked();
    let at = |millis: i64| jiff::Timestamp::from_millisecond(millis).unwrap();
    let id = two_shipments(&mut shop);
    let created = shop.only(id).created_at;
    shop.clock += 3_600_000;
    let now = shop.clock;
    let delivered_at = |shop: &Shop, number: &str| {
        let mut all = shop.only(id).shipments.iter();
        let has = |one: &&Shipment| {
            one.tracking_number == number && one.status == ShipmentStatus::Delivered
        };
        all.find(has).unwrap().delivered_at.unwrap()
    };
    let body = |number: &str, time| json!({"tracking_number": number, "timestamp": time});
    shop.told(id, "delivered", body("TA", at(now - 60_000)))
        .unwrap();
    assert_eq!(delivered_at(&shop, "TA"), at(now - 60_000));
    // Before it left.
    shop.told(id, "delivered", body("TB", created)).unwrap();
    assert_eq!(delivered_at(&shop, "TB"), at(shop.clock));

    let id = shop.order(&[("A", 1)]).unwrap();
    shop.settle();
    shop.clock += 3_600_000;
    let left = at(shop.clock - 1_800_000);
    shop.told(id, "shipped", json!({"timestamp": left}))
        .unwrap();
    let shipment = &shop.only(id).shipments[0];
    assert_eq!(shipment.shipped_at, Some(left));
    let future = at(shop.clock + 3_600_000);
    shop.told(id, "delivered", json!({"timestamp": future}))
        .unwrap();
    let shipment = &shop.only(id).shipments[0];
    assert_eq!(shipment.delivered_at, Some(at(shop.clock)));

    // Before the order was made.
    let id = shop.order(&[("A", 1)]).unwrap();
    shop.settle();
    shop.told(id, "shipped", json!({"timestamp": "2020-01-01T00:00:00Z"}))
        .unwrap();
    let shipment = &shop.only(id).shipments[0];
    assert_eq!(shipment.shipped_at, Some(at(shop.clock)));
}

#[test]
fn a_label_is_withdrawn_and_what_was_in_it_leaves_otherwise() {
    let mut shop = stocked();
    let id = shop.order(&[("A", 2)]).unwrap();
    shop.settle();
    let label = shop.only(id).shipments[0].clone();
    let cancel = json!({"id": id, "shipment_id": label.id, "reason": "torn"});
    let order = shop.ask("shipment.cancel", cancel.clone()).unwrap();
    assert_eq!(order["shipments"][0]["status"], "cancelled");
    let withdraws = Step::CancelShipment("east".parse().unwrap());
    assert!(shop.waiting().iter().any(|key| key.step == withdraws));
    // Asking again changes nothing, and what is not there is not found.
    let version = shop.only(id).version;
    shop.ask("shipment.cancel", cancel).unwrap();
    assert_eq!(shop.only(id).version, version);
    let other = shop.order(&[("A", 1)]).unwrap();
    let foreign = json!({"id": other, "shipment_id": label.id});
    let failure = shop.ask("shipment.cancel", foreign).unwrap_err();
    assert_eq!(failure.code, Code::NotFound);
    shop.settle();
    assert_eq!(shop.shelf("A", "east"), (9, 3));
    let order = shop.ship(id, json!({"tracking_number": "T2"})).unwrap();
    assert_eq!(order["status"], "shipped");
    let left = shop.only(id).shipped_shipments().next().unwrap().id;
    let late = json!({"id": id, "shipment_id": left});
    let failure = shop.ask("shipment.cancel", late).unwrap_err();
    assert_eq!(failure.code, Code::InvalidState);
    shop.settle();
    shop.check_settled();
}

#[test]
fn of_an_order_whose_rest_is_cancelled_only_what_left_is_paid_for() {
    for captures_in_parts in [true, false] {
        let mut shop = stocked();
        shop.captures_in_parts = captures_in_parts;
        let id = shop.order(&[("A", 3), ("B", 2)]).unwrap();
        shop.settle();
        let whole = shop.ask("order.cancel_remaining", json!({"id": id}));
        assert_eq!(whole.unwrap_err().code, Code::InvalidState);
        let part = json!({"items": [{"sku": "A", "quantity": 1}], "tracking_number": "TA"});
        shop.ship(id, part).unwrap();
        shop.settle();
        let body = json!({"id": id, "reason": "broken"});
        let order = shop.ask("order.cancel_remaining", body.clone()).unwrap();
        assert_eq!(order["status"], "shipped");
        assert_eq!(
            order["cancelled_items"],
            json!([{"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 2}])
        );
        assert_eq!(
            (shop.shelf("A", "east"), shop.shelf("B", "west")),
            ((8, 0), (9, 0))
        );
        let version = shop.only(id).version;
        shop.ask("order.cancel_remaining", body).unwrap();
        assert_eq!(shop.only(id).version, version, "asked again");
        shop.settle();
        let order = shop.only(id);
        assert_eq!((order.payment.captured, order.payment.refunded), (100, 0));
        assert_eq!(shop.provider[&id].captured, 100);
        // Labels of what stays are withdrawn, and nothing more can leave.
        assert_eq!(order.active_shipments().count(), 1);
        let more = shop.ship(id, json!({})).unwrap_err();
        assert_eq!(more.code, Code::InvalidState);
        shop.told(id, "delivered", json!({"tracking_number": "TA"}))
            .unwrap();
        assert_eq!(shop.only(id).status, OrderStatus::Delivered);
        shop.settle();
        shop.check_settled();
    }
}

#[test]
fn a_capture_that_is_under_way_when_the_rest_is_cancelled_is_not_the_last() {
    let mut shop = stocked();
    shop.captures_in_parts = false;
    let id = shop.order(&[("A", 3)]).unwrap();
    shop.settle();
    shop.ship(id, json!({"items": [{"sku": "A", "quantity": 1}]}))
        .unwrap();
    let capture = |shop: &Shop| {
        let mut waiting = shop.waiting().into_iter();
        waiting
            .find(|key| key.step == Step::CapturePayment)
            .unwrap()
    };
    // The provider takes nothing of a part, and says so too late.
    shop.perform(&capture(&shop), ProviderMode::Responds);
    shop.ask("order.cancel_remaining", json!({"id": id}))
        .unwrap();
    shop.settle();
    assert_eq!(shop.only(id).payment.captured, 100);
    shop.check_settled();
}

#[test]
fn what_was_taken_for_goods_that_stay_is_given_back() {
    let mut shop = stocked();
    let id = shop.order(&[("A", 3)]).unwrap();
    shop.settle();
    shop.ship(id, json!({"items": [{"sku": "A", "quantity": 1}]}))
        .unwrap();
    // The payment is captured completely in the provider's dashboard.
    shop.elsewhere(id, ProviderEvent::Captured, true);
    shop.settle();
    assert_eq!(shop.only(id).payment.captured, 300);
    shop.ask("order.cancel_remaining", json!({"id": id}))
        .unwrap();
    shop.settle();
    let payment = &shop.only(id).payment;
    assert_eq!((payment.captured, payment.refunded), (300, 200));
    assert_eq!(payment.status, PaymentStatus::PartiallyRefunded);
    shop.check_settled();
}

#[test]
fn goods_leave_the_warehouse_that_is_named() {
    let mut shop = Shop::with_stock(&[("A", "east", 2), ("A", "west", 5), ("B", "west", 1)]);
    let id = shop.order(&[("A", 6), ("B", 1)]).unwrap();
    shop.settle();
    assert_eq!(
        (shop.shelf("A", "east"), shop.shelf("A", "west")),
        ((2, 1), (5, 5))
    );
    let nothing = shop.ship(id, json!({"warehouse": "north"})).unwrap_err();
    assert_eq!(nothing.code, Code::InvalidRequest);
    // East has one more than it holds for the order.
    let items =
        |quantity: u32| json!({"warehouse": "east", "items": [{"sku": "A", "quantity": quantity}]});
    for too_many in [3, 7] {
        let failure = shop.ship(id, items(too_many)).unwrap_err();
        assert_eq!(failure.code, Code::InvalidRequest, "{failure}");
    }
    shop.ship(id, items(2)).unwrap();
    assert_eq!(
        (shop.shelf("A", "east"), shop.shelf("A", "west")),
        ((0, 0), (5, 4))
    );
    let left = shop.only(id).shipped_shipments().flat_map(|one| &one.items);
    let left: Vec<_> = left
        .map(|item| (item.warehouse.as_str(), item.quantity.get()))
        .collect();
    assert_eq!(left, [("east", 1), ("east", 1)]);
    let order = shop.ship(id, json!({"warehouse": "west"})).unwrap();
    assert_eq!(order["status"], "shipped");
    assert_eq!(order.get("cancelled_items"), None);
    assert_eq!(
        (shop.shelf("A", "west"), shop.shelf("B", "west")),
        ((1, 0), (0, 0))
    );
    shop.settle();
    assert_eq!(shop.only(id).payment.captured, 700);
    shop.check_settled();
}

#[test]
fn a_mistyped_warehouse_is_removed_or_renamed() {
    let mut shop = Shop::with_stock(&[("A", "berlin", 5), ("A", "belrin", 7)]);
    let remove = |shop: &mut Shop, body: Value| {
        let mut body = body;
        body["sku"] = json!("A");
        body["warehouse"] = json!("belrin");
        shop.ask("stock.remove", body)
    };
    let id = shop.order(&[("A", 7)]).unwrap();
    let refused = remove(&mut shop, json!({"move_to": "berlin"})).unwrap_err();
    assert_eq!(refused.code, Code::InvalidState, "reserved");
    shop.cancel(id).unwrap();
    let refused = remove(&mut shop, json!({})).unwrap_err();
    assert_eq!(refused.code, Code::InvalidState, "not empty");
    let refused = remove(&mut shop, json!({"move_to": "belrin"})).unwrap_err();
    assert_eq!(refused.code, Code::InvalidRequest, "itself");
    let product = remove(&mut shop, json!({"move_to": "berlin"})).unwrap();
    let stock = json!([{"warehouse": "berlin", "on_hand": 12, "reserved": 0, "available": 12}]);
    assert_eq!(product["stock"], stock);
    let missing = remove(&mut shop, json!({})).unwrap_err();
    assert_eq!(missing.code, Code::NotFound);
    // It comes back when something is counted there.
    let count = json!({"sku": "A", "warehouse": "belrin", "on_hand": 0});
    let product = shop.ask("stock.set", count).unwrap();
    assert_eq!(product["stock"].as_array().unwrap().len(), 2);
    let product = remove(&mut shop, json!({})).unwrap();
    assert_eq!(product["stock"], stock);
}

/// Something that a shipper, an operator or a partner does.
#[derive(Debug, Clone)]
enum RandomAction {
    Ship {
        sku: u8,
        quantity: u32,
        number: u8,
        warehouse: u8,
    },
    RpcReply {
        update: usize,
        id: Option<usize>,
        number: Option<u8>,
    },
    CancelShipment(usize),
    CancelRemaining,
    Perform(usize),
    Arrive(usize),
}

fn random_action() -> impl Strategy<Value = RandomAction> {
    let id = proptest::option::weighted(0.3, 0_usize..4);
    let number = proptest::option::weighted(0.7, 0_u8..4);
    prop_oneof![
        3 => (0_u8..2, 1_u32..4, 0_u8..3, 0_u8..3).prop_map(|(sku, quantity, number, warehouse)| {
            RandomAction::Ship { sku, quantity, number, warehouse }
        }),
        5 => (0_usize..6, id, number)
            .prop_map(|(update, id, number)| RandomAction::Told { update, id, number }),
        1 => (0_usize..4).prop_map(RandomAction::CancelShipment),
        1 => Just(RandomAction::CancelRemaining),
        4 => any::<usize>().prop_map(RandomAction::ExecuteStep),
        4 => any::<usize>().prop_map(RandomAction::DeliverResult),
    ]
}

fn apply_action(shop: &mut Shop, id: OrderId, random_action: &RandomAction) {
    let before = shop.only(id).clone();
    let shipment = |index: usize| before.shipments.get(index).map(|one| one.id);
    match random_action {
        RandomAction::Ship {
            sku,
            quantity,
            number,
            warehouse,
        } => {
            let sku = ["A", "B"][usize::from(*sku)];
            let mut body = json!({"items": [{"sku": sku, "quantity": quantity}], "tracking_number": format!("T{number}")});
            if let Some(name) = ["east", "west"].get(usize::from(*warehouse)) {
                body["warehouse"] = json!(name);
            }
            let _ = shop.ship(id, body);
        }
        RandomAction::Told {
            update,
            id: index,
            number,
        } => {
            let mut named = json!({});
            let named_id = index.and_then(shipment);
            if let Some(named_id) = named_id {
                named["shipment_id"] = json!(named_id);
            }
            if let Some(number) = number {
                named["tracking_number"] = json!(format!("T{number}"));
            }
            let update = ShipmentUpdate::ALL[*update];
            let kind = update.as_str().strip_prefix("shipment.").unwrap();
            let done = shop.told(id, kind, named);
            // Nothing moves that was not named.
            let is_named = |one: &Shipment| match (named_id, number) {
                (Some(named_id), _) => one.id == named_id,
                (None, Some(number)) => one.tracking_number == format!("T{number}"),
                (None, None) => true,
            };
            let is_new = |one: &Shipment| before.shipments.iter().all(|old| old.id != one.id);
            let after = shop.only(id);
            for one in &before.shipments {
                assert!(is_named(one) || after.shipments.contains(one), "{one:?}");
            }
            let made = after.shipments.iter().filter(|one| is_new(one)).count();
            let may_make =
                named_id.is_none() && (number.is_none() || update == ShipmentUpdate::Shipped);
            assert!(may_make || made == 0);
            let is_known = before.shipments.iter().any(is_named);
            assert!(
                done.is_err() || is_known || made > 0,
                "an unknown one was taken"
            );
            if done.is_err() {
                assert_eq!(*after, before);
            }
        }
        RandomAction::CancelShipment(index) => {
            if let Some(shipment_id) = shipment(*index) {
                let _ = shop.ask(
                    "shipment.cancel",
                    json!({"id": id, "shipment_id": shipment_id}),
                );
            }
        }
        RandomAction::CancelRemaining => {
            let done = shop.ask("order.cancel_remaining", json!({"id": id}));
            let is_in_parts = before.status == OrderStatus::Processing
                && before.shipped_shipments().next().is_some()
                && !before.held.is_empty();
            assert_eq!(
                done.is_ok(),
                is_in_parts || !before.cancelled_items().is_empty()
            );
        }
        RandomAction::ExecuteStep(index) => {
            let waiting = shop.waiting();
            if !waiting.is_empty() {
                shop.perform(&waiting[index % waiting.len()], ProviderMode::Responds);
            }
        }
        RandomAction::DeliverResult(index) => {
            if !shop.answers.is_empty() {
                shop.deliver_result(index % shop.answers.len(), false);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_told_moves_what_it_names_and_what_left_is_paid_for(
        captures_in_parts in any::<bool>(),
        random_actions in vec(random_action(), 1..60),
    ) {
        let mut shop = Shop::with_stock(&[("A", "east", 4), ("A", "west", 4), ("B", "west", 4)]);
        shop.captures_in_parts = captures_in_parts;
        let id = shop.order(&[("A", 5), ("B", 3)]).unwrap();
        shop.settle();
        for random_action in &random_actions {
            apply_action(&mut shop, id, random_action);
        }
        shop.settle();
        let _ = shop.ask("order.cancel_remaining", json!({"id": id}));
        shop.settle();
        shop.check_settled();
        let order = shop.only(id);
        // By now nothing more will leave, so a provider that takes all at once has taken it.
        if order.held.is_empty() {
            assert_eq!(order.payment.captured, order.capture_due());
        }
    }
}
