//! What could not be done waits for an operator, who has it tried again or lets it be.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Book, System, is_announced, order, python, send, until};

async fn letters(system: &System) -> Vec<Value> {
    let page = system.get("/v1/dead-letters?limit=200").await.expect(200);
    page["data"].as_array().unwrap().clone()
}

/// An order that is delivered, but whose money can't be taken: the provider gave the hold up.
pub(crate) async fn uncapturable(system: &System, sku: &str) -> String {
    let customer = system.customer().await;
    let created = system
        .post("/v1/orders", order(&customer, sku, 1))
        .await
        .expect(201);
    let id = created["id"].as_str().unwrap().to_owned();
    system.order_until(&id, "announced", is_announced).await;
    ledger_status(system, &id, "voided");
    system
        .webhook(&format!("m-{id}"), "shipment.delivered", &id)
        .await
        .expect(200);
    let letter = format!("{id}:capture_payment");
    until("the capture to be dead", async || {
        letters(system)
            .await
            .iter()
            .any(|dead| dead["id"] == letter.as_str())
    })
    .await;
    id
}

fn ledger_status(system: &System, id: &str, status: &str) {
    let sql =
        format!("UPDATE payments SET status = '{status}' WHERE key = '{id}/authorize_payment'");
    system.store.run(Book::Ledger, &sql);
}

#[tokio::test]
async fn a_dead_step_says_why_and_once_redriven_is_done_once() {
    let system = System::start().await;
    system.stock("A", &[("main", 5)]).await;
    let id = uncapturable(&system, "A").await;
    let dead = letters(&system).await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0]["kind"], "step");
    assert_eq!(dead[0]["order_id"], id.as_str());
    assert_eq!(dead[0]["step"], "capture_payment");
    assert_eq!(dead[0]["attempts"], 1);
    let reason = dead[0]["reason"].as_str().unwrap();
    assert!(reason.contains("can't be captured"), "{reason}");

    // In vain: nothing has changed, and it is dead again.
    let path = format!("/v1/dead-letters/{id}:capture_payment");
    let redrive = format!("{path}/redrive");
    system.post(&redrive, json!({})).await.expect(200);
    until("the second attempt to fail", async || {
        letters(&system)
            .await
            .first()
            .map(|dead| dead["attempts"].clone())
            == Some(json!(2))
    })
    .await;

    ledger_status(&system, &id, "authorized");
    // Sent twice under one key, it is one redrive.
    for times in 0..2 {
        let request = system
            .request(Method::POST, &redrive)
            .header("idempotency-key", "again");
        let reply = send(request).await;
        let replayed = reply.headers.contains_key("idempotent-replayed");
        assert_eq!(replayed, times > 0);
        assert_eq!(reply.expect(200)["status"], "redriven");
    }
    system
        .order_until(&id, "paid for", |order| {
            order["payment"]["status"] == "captured"
        })
        .await;
    assert!(letters(&system).await.is_empty());
    let captures = "SELECT count(*) FROM movements WHERE kind = 'capture'";
    assert_eq!(system.ledger(captures), "1");
    let history = system.history(&id).await;
    let steps: Vec<_> = history
        .iter()
        .filter(|kind| kind.starts_with("step.") || *kind == "payment.captured")
        .collect();
    assert_eq!(
        steps,
        [
            "step.dead",
            "step.redriven",
            "step.dead",
            "step.redriven",
            "payment.captured"
        ]
    );
    // It is no dead letter any more.
    system
        .post(&redrive, json!({}))
        .await
        .expect_problem(404, "NOT_FOUND");
    system.assert_verified();
}

#[tokio::test]
async fn a_discarded_step_is_gone_and_verify_names_what_it_left() {
    let system = System::start().await;
    system.stock("A", &[("main", 5)]).await;
    let id = uncapturable(&system, "A").await;
    system.assert_verified();
    system
        .delete(&format!("/v1/dead-letters/{id}:capture_payment"))
        .await
        .expect(204);
    assert!(letters(&system).await.is_empty());
    assert_eq!(system.history(&id).await.last().unwrap(), "step.discarded");
    let (is_right, report) = system.verify();
    assert!(
        !is_right && report.contains("authorized in our books, but voided"),
        "{report}"
    );
}

#[tokio::test]
async fn messages_that_cannot_be_used_are_kept_as_they_came() {
    let system = System::start_with(&[("API_KEYS", "operator=operator-key;storefront=shop-key-1")]);
    let mut system = system.await;
    system.key = Some("operator-key".to_owned());
    system.stock("A", &[("main", 10)]).await;
    let customer = system.customer().await;
    let said = python("foreign.py", &["garbage", &system.broker.url(), &customer]);
    assert!(said.contains("survived"), "{said}");
    until("all to be archived", async || {
        letters(&system).await.len() == 7
    })
    .await;

    let dead = letters(&system).await;
    let of = |what: &str| {
        let found = dead
            .iter()
            .find(|letter| letter["body"].as_str().unwrap().contains(what));
        found.unwrap_or_else(|| panic!("{what}: {dead:?}"))
    };
    for letter in &dead {
        assert_eq!(letter["kind"], "message");
        assert_eq!(letter["queue"], "order-worker-queue");
        assert_eq!(letter["type"], "authorize_payment");
        assert!(letter["reason"].as_str().unwrap().starts_with("rejected: "));
    }
    let dance = of("dance");
    let reason = dance["reason"].as_str().unwrap();
    assert!(reason.contains("unknown step"), "{reason}");
    let binary = dead.iter().find(|letter| letter["is_base64"] == true);
    assert_eq!(binary.unwrap()["body"], "//4AgA==");

    // Listed page by page, each once.
    let (mut seen, mut path) = (Vec::new(), "/v1/dead-letters?limit=3".to_owned());
    loop {
        let page = system.get(&path).await.expect(200);
        seen.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/dead-letters?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, dead);

    // One that was too large was not kept whole; the others can be sent again.
    let large = dead.iter().find(|letter| letter["is_cut"] == true).unwrap();
    let path = |letter: &Value, what: &str| {
        format!("/v1/dead-letters/{}{what}", letter["id"].as_str().unwrap())
    };
    system
        .post(&path(large, "/redrive"), json!({}))
        .await
        .expect_problem(409, "INVALID_STATE");
    system
        .post(&path(dance, "/redrive"), json!({}))
        .await
        .expect(200);
    until("it to be rejected again", async || {
        let dead = letters(&system).await;
        let again = dead.iter().find(|letter| letter["body"] == dance["body"]);
        again.is_some_and(|letter| letter["id"] != dance["id"])
    })
    .await;
    let again = letters(&system).await;
    assert_eq!(again.len(), 7);
    for letter in &again {
        system
            .post(&path(letter, "/discard"), json!({}))
            .await
            .expect(200);
    }
    assert!(letters(&system).await.is_empty());

    // Not for storefronts, and not for ids that are none.
    let shop = |method: Method, path: &str| {
        let request = system.client.request(method, system.url(path));
        send(request.bearer_auth("shop-key-1"))
    };
    shop(Method::GET, "/v1/dead-letters")
        .await
        .expect_problem(403, "FORBIDDEN");
    let gone = path(dance, "");
    shop(Method::DELETE, &gone)
        .await
        .expect_problem(403, "FORBIDDEN");
    for unknown in [gone.as_str(), "/v1/dead-letters/x", "/v1/dead-letters/a:b"] {
        system
            .delete(unknown)
            .await
            .expect_problem(404, "NOT_FOUND");
    }
    system
        .get("/v1/dead-letters?cursor=x")
        .await
        .expect_problem(422, "INVALID_REQUEST");
    system.quiet().await;
    system.assert_verified();
}

#[tokio::test]
async fn killed_while_it_archives_or_redrives_nothing_is_lost() {
    let mut system = System::start_with(&[("REQUEST_TIMEOUT_MS", "20000")]).await;
    system.worker.kill();
    system.set("CRASH_AT", Some("after_archived"));
    system.launch_worker();
    let said = python("foreign.py", &["reject", &system.broker.url(), "-"]);
    assert!(said.contains("sent"), "{said}");
    until("the worker to die", async || system.worker.has_ended()).await;
    system.set("CRASH_AT", None);
    system.restart_worker().await;
    // It was not acknowledged, so it came again.
    until("it to be archived again", async || {
        letters(&system).await.len() == 2
    })
    .await;

    let dead = letters(&system).await;
    system.worker.kill();
    system.set("CRASH_AT", Some("after_redriven"));
    system.restart_worker().await;
    let path = format!(
        "/v1/dead-letters/{}/redrive",
        dead[0]["id"].as_str().unwrap()
    );
    let (reply, replacement) = tokio::join!(system.post(&path, json!({})), async {
        until("the worker to die", async || system.deaths() == 2).await;
        system.spawn_replacement_worker()
    });
    system.worker = replacement;
    // The replacement may be asked before it can send.
    if reply.status != 200 {
        reply.expect_problem(503, "UNAVAILABLE");
        system.post(&path, json!({})).await.expect(200);
    }
    // Sent at least twice, and rejected as often.
    until("all to be archived", async || {
        let now = letters(&system).await;
        now.len() == 3 && now.iter().all(|letter| letter["id"] != dead[0]["id"])
    })
    .await;
    system.assert_verified();
}

#[tokio::test]
async fn all_dead_steps_are_redriven_together() {
    let system = System::start().await;
    let mut ids = Vec::new();
    for sku in ["A", "B", "C"] {
        system.stock(sku, &[("main", 5)]).await;
        ids.push(uncapturable(&system, sku).await);
    }
    for id in &ids {
        ledger_status(&system, id, "authorized");
    }
    let all = "/v1/dead-letters/redrive";
    let others = json!({"all": true, "step": "refund_payment"});
    assert_eq!(system.post(all, others).await.expect(200)["redriven"], 0);
    let told = system.post(all, json!({"all": true})).await.expect(200);
    assert_eq!(told, json!({"redriven": 3, "next_cursor": null}));
    for id in &ids {
        let is_paid = |order: &Value| order["payment"]["status"] == "captured";
        system.order_until(id, "paid for", is_paid).await;
    }
    assert!(letters(&system).await.is_empty());
    let captures = "SELECT count(*) FROM movements WHERE kind = 'capture'";
    assert_eq!(system.ledger(captures), "3");
    system.assert_verified();
}
