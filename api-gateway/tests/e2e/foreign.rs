//! Others on the broker: a client that none of us wrote, and garbage.

use crate::harness::{System, python, until};

#[tokio::test]
async fn a_foreign_client_asks_and_listens_as_the_contract_says() {
    let system = System::start().await;
    system.stock("A", &[("main", 10)]).await;
    let customer = system.customer().await;
    let said = python("foreign.py", &["talk", &system.broker.url(), &customer]);
    assert!(said.contains("talked"), "{said}");
    system.quiet().await;
    system.assert_verified();
}

#[tokio::test]
async fn a_storefront_may_not_do_an_operators_work_over_the_broker_either() {
    let system = System::start().await;
    system.stock("A", &[("main", 10)]).await;
    let customer = system.customer().await;
    let said = python("foreign.py", &["roles", &system.broker.url(), &customer]);
    assert!(said.contains("refused"), "{said}");
    system.quiet().await;
    system.assert_verified();
}

/// nest 11641: one message that it did not know froze a worker for good.
#[tokio::test]
async fn one_message_that_no_client_can_decode_does_not_freeze_the_worker() {
    let system = System::start().await;
    system.stock("A", &[("main", 100)]).await;
    let customer = system.customer().await;
    let said = python("foreign.py", &["poison", &system.broker.url(), &customer]);
    assert!(said.contains("survived"), "{said}");
    assert_eq!(system.quiet().await.len(), 20);
    // Nor the archive of dead letters, where it went: the broker drops it in the end.
    let said = python("foreign.py", &["reject", &system.broker.url(), &customer]);
    assert!(said.contains("sent"), "{said}");
    until("what can be decoded to be archived", async || {
        let letters = system.get("/v1/dead-letters").await.expect(200);
        letters["data"].as_array().unwrap().len() == 1
    })
    .await;
    system.assert_verified();
}

#[tokio::test]
async fn a_request_whose_expiration_has_passed_is_not_executed() {
    let mut system = System::start().await;
    system.stock("A", &[("main", 10)]).await;
    let customer = system.customer().await;
    system.worker.kill();
    let said = python("foreign.py", &["expire", &system.broker.url(), &customer]);
    assert!(said.contains("expired"), "{said}");
    system.restart_worker().await;
    // It comes behind the one that has expired.
    until("the other to be executed", async || {
        let listed = system.get("/v1/orders").await;
        listed.status == 200 && listed.body["data"] != serde_json::json!([])
    })
    .await;
    let orders = system.orders().await;
    assert_eq!(
        orders.len(),
        1,
        "only the one that had not expired: {orders:?}"
    );
    assert_eq!(orders[0]["metadata"]["expires"], false);
    system.assert_verified();
}
