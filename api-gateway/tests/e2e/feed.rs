//! The event feed and the event stream: order of commits, resumption and isolation of storefronts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, future::join_all};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::harness::{System, has_shipping_label, order_body, run_script, send, wait_until};

fn id_of(event: &Value) -> &str {
    event["id"].as_str().unwrap()
}

fn position_of(event: &Value) -> i64 {
    event["position"].as_str().unwrap().parse().unwrap()
}

/// Reads all events after `after_position`, page by page.
async fn read_feed(system: &System, filter_query: &str, after_position: &str) -> Vec<Value> {
    let (mut events, mut next_position) = (Vec::new(), after_position.to_owned());
    loop {
        let path = format!("/v1/events?limit=50&after={next_position}{filter_query}");
        let page = system.get(&path).await.expect(200);
        events.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(cursor) => cursor.clone_into(&mut next_position),
            None => return events,
        }
    }
}

/// A client of a stream of server-sent events.
struct EventStreamClient {
    chunks: futures_util::stream::BoxStream<'static, reqwest::Result<Vec<u8>>>,
    unparsed_text: String,
}

impl EventStreamClient {
    async fn connect(
        client: &Client,
        url: &str,
        last_event_id: Option<&str>,
        api_key: Option<&str>,
    ) -> Option<Self> {
        let mut request = client.get(url);
        if let Some(last_id) = last_event_id {
            request = request.header("last-event-id", last_id);
        }
        if let Some(api_key) = api_key {
            request = request.bearer_auth(api_key);
        }
        let response = request.send().await.ok()?;
        if response.status() != 200 {
            return None;
        }
        let chunks = response.bytes_stream();
        Some(Self {
            chunks: chunks
                .map(|chunk| chunk.map(|bytes| bytes.to_vec()))
                .boxed(),
            unparsed_text: String::new(),
        })
    }

    /// Returns the next event, or `None` when the connection is closed or silent for five seconds.
    async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some((frame, following_text)) = self.unparsed_text.split_once("\n\n") {
                let frame_fields: BTreeMap<_, _> = frame
                    .lines()
                    .filter_map(|line| line.split_once(": "))
                    .collect();
                let event = frame_fields.get("data").map(|data| {
                    let event: Value = serde_json::from_str(data).unwrap();
                    assert_eq!(frame_fields["id"], id_of(&event));
                    assert_eq!(frame_fields["event"], event["type"].as_str().unwrap());
                    event
                });
                let following_text = following_text.to_owned();
                self.unparsed_text = following_text;
                if event.is_some() {
                    return event;
                }
            }
            let chunk = tokio::time::timeout(Duration::from_secs(5), self.chunks.next()).await;
            let chunk_bytes = chunk.ok()??.ok()?;
            self.unparsed_text
                .push_str(std::str::from_utf8(&chunk_bytes).unwrap());
        }
    }
}

/// Checks that each expected event was received once, and the events of each order in sequence.
fn assert_complete(events: &[Value], expected_events: &[Value]) {
    let ids: Vec<&str> = events.iter().map(id_of).collect();
    let unique_ids: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(
        unique_ids.len(),
        ids.len(),
        "some events were received twice"
    );
    let expected_ids: BTreeSet<&str> = expected_events.iter().map(id_of).collect();
    let missed_ids: Vec<_> = expected_ids.difference(&unique_ids).collect();
    assert!(missed_ids.is_empty(), "missed {missed_ids:?}");
    let mut last_sequences: BTreeMap<&str, &str> = BTreeMap::new();
    for event in events {
        let (subject, sequence) = (
            event["subject"].as_str().unwrap(),
            event["sequence"].as_str().unwrap(),
        );
        let previous_sequence = last_sequences.insert(subject, sequence);
        assert!(
            previous_sequence.is_none_or(|previous| previous < sequence),
            "{event}"
        );
    }
}

#[tokio::test]
async fn requests_waiting_for_events_do_not_block_others() {
    let system = System::start().await;
    let customer_id = system.create_customer().await;
    let script_output = run_script(
        "foreign.py",
        &["waiters", &system.broker.url(), &customer_id],
    );
    assert!(
        script_output.contains("not kept waiting"),
        "{script_output}"
    );
}

#[tokio::test]
async fn feed_reader_misses_no_event_during_concurrent_writes() {
    let system = System::start_with(&[]).await;
    // On PostgreSQL several workers write concurrently, each with its own positions.
    let other_workers: Vec<_> = if crate::harness::setting("TEST_STORE") == "postgres" {
        (0..2).map(|_| system.spawn_replacement_worker()).collect()
    } else {
        Vec::new()
    };
    system
        .create_product_with_stock("A", &[("main", 1_000)])
        .await;
    let customer_id = system.create_customer().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let read_feed_meanwhile = async {
        let (mut seen_events, mut next_position) = (Vec::new(), "0".to_owned());
        loop {
            let was_over = is_over.load(Ordering::Acquire);
            let page = system
                .get(&format!("/v1/events?limit=7&after={next_position}"))
                .await
                .expect(200);
            seen_events.extend(page["data"].as_array().unwrap().iter().cloned());
            next_position = page["position"].as_str().unwrap().to_owned();
            if was_over && page["next_cursor"].is_null() {
                return seen_events;
            }
        }
    };
    let create_orders = async {
        for _ in 0..10 {
            let order_requests =
                (0..20).map(|_| system.post("/v1/orders", order_body(&customer_id, "A", 1)));
            for reply in join_all(order_requests).await {
                reply.expect(201);
            }
        }
        system.wait_until_idle().await;
        is_over.store(true, Ordering::Release);
    };
    let (seen_events, ()) = tokio::join!(read_feed_meanwhile, create_orders);
    let all_events = read_feed(&system, "", "0").await;
    assert_eq!(
        seen_events.iter().map(id_of).collect::<Vec<_>>(),
        all_events.iter().map(id_of).collect::<Vec<_>>()
    );
    assert!(seen_events.iter().map(position_of).is_sorted());
    assert!(all_events.len() > 800, "{}", all_events.len());
    drop(other_workers);
    system.assert_verified();
}

#[tokio::test]
async fn feed_can_be_filtered_and_resumed_after_any_event() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let mut order_ids = Vec::new();
    for _ in 0..3 {
        let order_reply = system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await;
        order_ids.push(order_reply.expect(201)["id"].as_str().unwrap().to_owned());
    }
    for order_id in &order_ids {
        system
            .wait_for_order(order_id, "announced", has_shipping_label)
            .await;
    }
    let all_events = read_feed(&system, "", "0").await;
    let events_of_order = read_feed(&system, &format!("&order_id={}", order_ids[1]), "0").await;
    assert!(
        events_of_order
            .iter()
            .all(|event| event["subject"] == order_ids[1].as_str())
    );
    assert_eq!(
        events_of_order.len(),
        system.list_event_types(&order_ids[1]).await.len()
    );
    let created_events = read_feed(&system, "&type=order.created", "0").await;
    assert_eq!(created_events.len(), 3);
    let selected_events = read_feed(&system, "&type=payment.*,order.created", "0").await;
    assert_eq!(selected_events.len(), 6);
    for after_position in [
        id_of(&created_events[1]).to_owned(),
        position_of(&created_events[1]).to_string(),
    ] {
        let following_events = read_feed(&system, "", &after_position).await;
        let index = all_events
            .iter()
            .position(|event| id_of(event) == id_of(&created_events[1]));
        assert_eq!(following_events, all_events[index.unwrap() + 1..]);
    }
    let feed_end = system.get("/v1/events?after=now").await.expect(200);
    assert_eq!(
        (&feed_end["data"], &feed_end["next_cursor"]),
        (&json!([]), &Value::Null)
    );
    for invalid_query in [
        "after=0192f0c1-2345-7abc-8def-0123456789ab",
        "after=yesterday",
        "after=-1",
        "type=Order",
        "type=order.created,,",
        "order_id=1",
        "limit=0",
        "limit=201",
        "wait_ms=-1",
        "since=1",
    ] {
        let refused_reply = system.get(&format!("/v1/events?{invalid_query}")).await;
        refused_reply.expect_problem(422, "INVALID_REQUEST");
    }
    // A waiting request is answered as soon as there is a new event.
    let now_position = feed_end["position"].as_str().unwrap();
    let path = format!("/v1/events?wait_ms=20000&type=order.cancelled&after={now_position}");
    let cancel_path = format!("/v1/orders/{}/cancel", order_ids[2]);
    let (page, cancel_reply) =
        tokio::join!(system.get(&path), system.post(&cancel_path, json!({})));
    cancel_reply.expect(200);
    assert_eq!(
        page.expect(200)["data"][0]["subject"],
        order_ids[2].as_str()
    );
}

#[tokio::test]
async fn long_polling_clients_do_not_block_orders() {
    let system = System::start_with(&[("REQUEST_TIMEOUT_MS", "20000")]).await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    let feed_end = system.get("/v1/events?after=now").await.expect(200);
    let feed_position = feed_end["position"].as_str().unwrap();
    let path = format!("/v1/events?type=order.created&wait_ms=20000&after={feed_position}");
    // Requested one by one, so that they exceed the number of messages that the worker prefetches.
    let mut waiting_readers = Vec::new();
    for _ in 0..300 {
        waiting_readers.push(tokio::spawn(send(system.request(Method::GET, &path))));
        system.get("/v1/customers").await.expect(200);
    }
    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await;
    let created_order = order_reply.expect(201);
    for page in join_all(waiting_readers).await {
        let page = page.unwrap().expect(200);
        assert_eq!(page["data"][0]["subject"], created_order["id"]);
    }
}

const API_KEYS: &str = "storefront@eu=key-of-eu;storefront@us=key-of-us;operator=key-of-operator";

#[tokio::test]
async fn storefronts_get_only_their_own_events() {
    let mut system = System::start_with(&[("API_KEYS", API_KEYS)]).await;
    let client = system.client.clone();
    let url = system.url("/v1/events/stream");
    assert!(
        EventStreamClient::connect(&client, &url, None, None)
            .await
            .is_none()
    );
    let mut live_stream = EventStreamClient::connect(&client, &url, None, Some("key-of-us"))
        .await
        .unwrap();
    let mut operator_stream =
        EventStreamClient::connect(&client, &url, None, Some("key-of-operator"))
            .await
            .unwrap();

    system.api_key = Some("key-of-operator".to_owned());
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let mut order_ids_by_storefront = BTreeMap::new();
    for storefront in ["eu", "us"] {
        system.api_key = Some(format!("key-of-{storefront}"));
        let customer_id = system.create_customer().await;
        let order_reply = system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await;
        let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
        system
            .wait_for_order(&id, "announced", has_shipping_label)
            .await;
        order_ids_by_storefront.insert(storefront, id);
    }
    // Checks what the storefront `us` can read.
    for filter_query in [
        "",
        "&storefront=eu",
        &format!("&order_id={}", order_ids_by_storefront["eu"]),
    ] {
        let events = read_feed(&system, filter_query, "0").await;
        let foreign_event = events.iter().find(|event| event["storefront"] != "us");
        assert_eq!(foreign_event, None, "{filter_query}");
    }
    let live_event = live_stream.next().await.unwrap();
    assert_eq!(
        live_event["subject"],
        order_ids_by_storefront["us"].as_str()
    );
    // An event of another storefront is a valid position in the feed, but is not shown.
    system.api_key = Some("key-of-operator".to_owned());
    let events_of_eu = read_feed(&system, "&storefront=eu", "0").await;
    let us_stream_after_eu_event = EventStreamClient::connect(
        &client,
        &url,
        Some(id_of(&events_of_eu[0])),
        Some("key-of-us"),
    )
    .await;
    assert_eq!(
        us_stream_after_eu_event.unwrap().next().await.unwrap()["storefront"],
        "us"
    );
    let mut storefronts = BTreeSet::new();
    while storefronts.len() < 3 {
        storefronts.insert(operator_stream.next().await.unwrap()["storefront"].to_string());
    }
}

#[tokio::test]
async fn stream_with_a_hundred_reconnects_delivers_each_event_once() {
    let mut system = System::start_with_own_broker(&[]).await;
    system.set_variable("HTTP_ADDR", Some(&system.url("")["http://".len()..]));
    system
        .create_product_with_stock("A", &[("main", 10_000)])
        .await;
    let customer_id = system.create_customer().await;
    let feed_end = system.get("/v1/events?after=now").await.expect(200);
    let start_position = feed_end["position"].as_str().unwrap().to_owned();

    let is_over = Arc::new(AtomicBool::new(false));
    let url = format!("{}?after={start_position}", system.url("/v1/events/stream"));
    let (client, is_reader_over) = (system.client.clone(), Arc::clone(&is_over));
    let reading_task = tokio::spawn(async move {
        let (mut events, mut connection_count): (Vec<Value>, u32) = (Vec::new(), 0);
        loop {
            let was_over = is_reader_over.load(Ordering::Acquire);
            let last_id = events.last().map(|event| id_of(event).to_owned());
            let Some(mut stream) =
                EventStreamClient::connect(&client, &url, last_id.as_deref(), None).await
            else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            connection_count += 1;
            // Closes the connection after a few events.
            let events_to_read = if connection_count < 100 {
                connection_count % 13
            } else {
                10_000
            };
            let count_before = events.len();
            for _ in 0..=events_to_read {
                match stream.next().await {
                    Some(event) => events.push(event),
                    None => break,
                }
            }
            if was_over && connection_count >= 100 && events.len() == count_before {
                return (events, connection_count);
            }
        }
    });

    let mut created_order_count = 0;
    let client = system.client.clone();
    let create_order = async |url: String| {
        let body = order_body(&customer_id, "A", 1);
        let reply = client.post(url).json(&body).send().await;
        usize::from(reply.is_ok_and(|reply| reply.status() == 201))
    };
    for round in 0..3 {
        let url = system.url("/v1/orders");
        for _ in 0..10 {
            let created_counts = join_all((0..8).map(|_| create_order(url.clone()))).await;
            created_order_count += created_counts.into_iter().sum::<usize>();
        }
        if round == 0 {
            system.gateway.kill();
            system.restart_gateway().await;
        } else if round == 1 {
            let mut broker = system.take_broker();
            tokio::task::spawn_blocking(move || {
                broker.kill();
                broker.start();
                broker
            })
            .await
            .map(|broker| system.broker = broker)
            .unwrap();
            wait_until("the gateway to be ready again", async || {
                system.get("/readyz").await.status == 200
            })
            .await;
        }
    }
    wait_until("orders to be readable again", async || {
        system.get("/v1/orders?limit=1").await.status == 200
    })
    .await;
    system.wait_until_idle().await;
    is_over.store(true, Ordering::Release);
    let (events, connection_count) = reading_task.await.unwrap();
    assert!(
        connection_count >= 100 && created_order_count > 100,
        "{connection_count} {created_order_count}"
    );
    let expected_events = read_feed(&system, "", &start_position).await;
    assert_complete(&events, &expected_events);
    assert_eq!(events.len(), expected_events.len());
    system.assert_verified();
}

#[tokio::test]
async fn unread_streams_do_not_affect_other_streams() {
    rlimit::increase_nofile_limit(4_096).unwrap();
    let system = System::start().await;
    system
        .create_product_with_stock("A", &[("main", 1_000)])
        .await;
    let customer_id = system.create_customer().await;
    let url = system.url("/v1/events/stream?type=order.created");
    // Opens more streams than the gateway allows requests in flight.
    let streams =
        join_all((0..1_500).map(|_| EventStreamClient::connect(&system.client, &url, None, None)))
            .await;
    let mut streams: Vec<EventStreamClient> = streams.into_iter().map(Option::unwrap).collect();
    // Most streams are never read.
    let unread_streams = streams.split_off(500);
    for _ in 0..30 {
        let order_reply = system
            .post("/v1/orders", order_body(&customer_id, "A", 1))
            .await;
        order_reply.expect(201);
    }
    let received_ids = join_all(streams.iter_mut().map(async |stream| {
        let mut received_ids = Vec::new();
        while received_ids.len() < 30 {
            received_ids.push(id_of(&stream.next().await.unwrap()).to_owned());
        }
        received_ids
    }))
    .await;
    assert!(received_ids.windows(2).all(|pair| pair[0] == pair[1]));
    drop(unread_streams);
    let refused_reply = send(system.request(Method::GET, "/v1/events/stream?after=x")).await;
    refused_reply.expect_problem(422, "INVALID_REQUEST");
}
