//! `ENCRYPTION_KEY`: webhook secrets at rest, wrong keys and rotation.

use reqwest::Method;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::{
    endpoints::ALLOW_PRIVATE_URLS,
    harness::{Process, Receiver, System, Tables, WORKER, send, wait_until},
};

/// Keys of 32 bytes.
const OLD_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const NEW_KEY: &str = "//////////////////////////////////////////8=";

impl System {
    /// Restarts the worker with these keys.
    async fn restart_with_keys(&mut self, key: Option<&str>, previous_key: Option<&str>) {
        self.worker.terminate();
        self.set_variable("ENCRYPTION_KEY", key);
        self.set_variable("ENCRYPTION_KEY_PREVIOUS", previous_key);
        self.restart_worker().await;
    }

    /// Runs `order-worker encrypt` with these variables.
    fn encrypt(&self, variables: &[(&str, &str)]) -> std::process::Output {
        let mut encrypt_command = Process::command(WORKER);
        encrypt_command
            .arg("encrypt")
            .env("DATABASE_URL", self.store.url());
        encrypt_command
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }

    /// Creates an endpoint under this idempotency key; returns the response.
    async fn endpoint_under_key(&self, url: &str, idempotency_key: &str) -> Value {
        let request = self.request(Method::POST, "/v1/webhook-endpoints");
        let request = request.header("idempotency-key", idempotency_key);
        let body = json!({"url": url, "event_types": ["product.*"]});
        send(request.json(&body)).await.expect(201)
    }

    /// Waits until the database contains none of these secrets as plain text.
    async fn wait_until_not_stored(&self, secrets: &[&str]) {
        wait_until("the secrets to be encrypted", async || {
            let dump = self.dump_all_tables();
            secrets.iter().all(|secret| !dump.contains(secret))
        })
        .await;
    }
}

/// Waits until the receiver has webhooks that are signed with each of these secrets.
async fn wait_until_signed_with(receiver: &Receiver, secrets: &[&str]) {
    wait_until("webhooks signed with the secrets", async || {
        let received_requests = receiver.received();
        secrets.iter().all(|secret| {
            let verifier = Webhook::new(secret).unwrap();
            let mut webhooks = received_requests.iter();
            webhooks.any(|webhook| verifier.verify(&webhook.body, &webhook.headers).is_ok())
        })
    })
    .await;
}

#[tokio::test]
async fn webhook_secrets_are_encrypted_rotated_and_decrypted_and_keep_signing() {
    let mut system = System::start_with(&[ALLOW_PRIVATE_URLS]).await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/");
    let first_endpoint = system.endpoint_under_key(&url, "k-1").await;
    let first_secret = first_endpoint["secret"].as_str().unwrap().to_owned();
    // Without a key, secrets are stored as they are.
    assert!(system.dump_all_tables().contains(&first_secret));

    system.restart_with_keys(Some(OLD_KEY), None).await;
    system.wait_until_not_stored(&[&first_secret]).await;
    let second_endpoint = system.endpoint_under_key(&url, "k-2").await;
    let second_secret = second_endpoint["secret"].as_str().unwrap().to_owned();
    let secrets = [&*first_secret, &*second_secret];
    system.wait_until_not_stored(&secrets).await;
    assert_eq!(system.endpoint_under_key(&url, "k-1").await, first_endpoint);
    assert_eq!(
        system.endpoint_under_key(&url, "k-2").await,
        second_endpoint
    );
    system.create_product_with_stock("A", &[]).await;
    wait_until_signed_with(&receiver, &secrets).await;
    let encrypted_with_old_key = system.store.all_rows("webhook_endpoints");

    // Rotation: the old key is needed until all secrets are encrypted with the new one.
    system.restart_with_keys(Some(NEW_KEY), Some(OLD_KEY)).await;
    let old_key_id = encrypted_with_old_key
        .split("enc:1:")
        .nth(1)
        .and_then(|text| text.split(':').next())
        .unwrap();
    wait_until("the new key", async || {
        !system
            .dump_all_tables()
            .contains(&format!("enc:1:{old_key_id}"))
    })
    .await;
    system.restart_with_keys(Some(NEW_KEY), None).await;
    assert_eq!(
        system.endpoint_under_key(&url, "k-2").await,
        second_endpoint
    );
    let rotate_path = format!(
        "/v1/webhook-endpoints/{}/rotate-secret",
        first_endpoint["id"].as_str().unwrap()
    );
    let rotated_endpoint = system.post(&rotate_path, json!({})).await.expect(200);
    let rotated_secret = rotated_endpoint["secret"].as_str().unwrap();
    system.create_product_with_stock("B", &[]).await;
    wait_until_signed_with(&receiver, &[rotated_secret, &second_secret]).await;
    let stored_text = system.dump_all_tables();
    assert!(!stored_text.contains(rotated_secret) && !stored_text.contains("whsec_"));

    // Back to plain text.
    system.worker.terminate();
    system.set_variable("ENCRYPTION_KEY", None);
    let encrypt_output = system.encrypt(&[("ENCRYPTION_KEY_PREVIOUS", NEW_KEY)]);
    assert!(encrypt_output.status.success(), "{encrypt_output:?}");
    assert!(system.dump_all_tables().contains(rotated_secret));
    assert!(!system.encrypt(&[]).status.success());
    system.restart_with_keys(None, None).await;
    system.create_product_with_stock("C", &[]).await;
    wait_until("the last webhooks", async || {
        let received_requests = receiver.received();
        let is_of_product = |body: &[u8]| String::from_utf8_lossy(body).contains("\"C\"");
        received_requests
            .iter()
            .filter(|webhook| is_of_product(&webhook.body))
            .count()
            >= 2
    })
    .await;
    system.assert_verified();
}

#[tokio::test]
async fn worker_with_a_wrong_or_missing_key_refuses_to_start_and_nothing_is_lost() {
    let mut system = System::start_with(&[ALLOW_PRIVATE_URLS, ("ENCRYPTION_KEY", OLD_KEY)]).await;
    let receiver = Receiver::start().await;
    let endpoint = system.endpoint_under_key(&receiver.url("/"), "k-1").await;
    let secret = endpoint["secret"].as_str().unwrap();
    system.wait_until_not_stored(&[secret]).await;
    let stored_text = system.store.all_rows("webhook_endpoints");
    system.worker.terminate();
    for key in [None, Some(NEW_KEY), Some("too short")] {
        system.set_variable("ENCRYPTION_KEY", key);
        let log_offset = system.launch_worker();
        wait_until("the worker to end", async || system.worker.has_ended()).await;
        let log = std::fs::read_to_string(system.folder.join("worker.log")).unwrap();
        let log = &log[usize::try_from(log_offset).unwrap()..];
        assert!(log.contains("ENCRYPTION_KEY"), "{log}");
        assert!(
            !log.contains(NEW_KEY) && !log.contains("too short"),
            "{log}"
        );
        assert_eq!(system.store.all_rows("webhook_endpoints"), stored_text);
    }
    system.set_variable("ENCRYPTION_KEY", Some(OLD_KEY));
    system.restart_worker().await;
    system.create_product_with_stock("A", &[]).await;
    wait_until_signed_with(&receiver, &[secret]).await;
    assert_eq!(
        system.endpoint_under_key(&receiver.url("/"), "k-1").await,
        endpoint
    );

    // A damaged row is reported, and the recorded reply is decrypted all the same.
    system.worker.terminate();
    let damage_sql = "UPDATE webhook_endpoints SET state = '{'";
    system.store.run(Tables::Worker, damage_sql);
    let encrypt_output = system.encrypt(&[("ENCRYPTION_KEY_PREVIOUS", OLD_KEY)]);
    assert_eq!(encrypt_output.status.code(), Some(1), "{encrypt_output:?}");
    assert_eq!(
        String::from_utf8_lossy(&encrypt_output.stdout),
        "1 rows changed\n"
    );
    let errors = String::from_utf8_lossy(&encrypt_output.stderr);
    assert!(
        errors.contains(endpoint["id"].as_str().unwrap()),
        "{errors}"
    );
}
