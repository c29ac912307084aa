//! Restoring a backup: readers with a later position in the feed get an error, and can read on from the current
//! end.

use std::mem;

use reqwest::{Method, Response};

use crate::harness::{System, order_body, send};

impl System {
    async fn open_stream(&self) -> Response {
        let request = self.request(Method::GET, "/v1/events/stream");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response
    }
}

/// Reads the stream until it contains `expected_text` or ends.
async fn read_until(stream: &mut Response, expected_text: &str) -> String {
    let mut stream_text = String::new();
    while !stream_text.contains(expected_text)
        && let Ok(Some(chunk)) = stream.chunk().await
    {
        stream_text.push_str(&String::from_utf8_lossy(&chunk));
    }
    stream_text
}

#[tokio::test]
async fn positions_beyond_a_restored_backup_are_refused() {
    let mut system = System::start().await;
    system.create_product_with_stock("A", &[("main", 10)]).await;
    let customer_id = system.create_customer().await;
    system.wait_until_idle().await;
    system.worker.terminate();
    let backup_store = system.store.copy(&system.folder);
    system.restart_worker().await;
    let mut stream = system.open_stream().await;
    let new_order = order_body(&customer_id, "A", 1);
    for _ in 0..3 {
        system
            .post("/v1/orders", new_order.clone())
            .await
            .expect(201);
    }
    let lost_order = system
        .post("/v1/orders", new_order.clone())
        .await
        .expect(201);
    let lost_order_id = lost_order["id"].as_str().unwrap();
    assert!(
        read_until(&mut stream, lost_order_id)
            .await
            .contains(lost_order_id)
    );
    system.wait_until_idle().await;
    let feed_end = system.get("/v1/events?after=now").await.expect(200);
    let end_position = feed_end["position"].as_str().unwrap();
    let history_reply = system
        .get(&format!("/v1/events?order_id={lost_order_id}"))
        .await;
    let last_event_id = history_reply.expect(200)["data"][0]["id"].clone();

    system.worker.kill();
    let newer_store = mem::replace(&mut system.store, backup_store);
    system.set_variable("DATABASE_URL", Some(&system.store.url()));
    system.restart_worker().await;

    // The stream is closed; reconnecting and reading the feed return an error.
    read_until(&mut stream, "the end").await;
    let stream_request = system
        .request(Method::GET, "/v1/events/stream")
        .header("last-event-id", last_event_id.as_str().unwrap());
    send(stream_request)
        .await
        .expect_problem(422, "INVALID_REQUEST");
    let path = format!("/v1/events?after={end_position}");
    let refused_reply = system.get(&path).await;
    let refused_problem = refused_reply.expect_problem(422, "INVALID_REQUEST");
    assert_eq!(refused_problem["errors"][0]["pointer"], "/after");

    // The same gateway streams new events.
    let mut stream = system.open_stream().await;
    let created_order = system.post("/v1/orders", new_order).await.expect(201);
    let id = created_order["id"].as_str().unwrap();
    assert!(read_until(&mut stream, id).await.contains(id));
    drop(newer_store);
}
