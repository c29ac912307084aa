//! `GET /v1/settings`: the effective configuration without secrets, versions, and connected systems.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::harness::{SECRET, System, is_announced, order_body, wait_until};

/// Part of every secret of the test, in its plain form or in base64.
const MARK: &str = "MARKED-SECRET-0123456789";

/// A secret of 32 bytes in base64.
fn base64_secret(first_byte: u8) -> String {
    let bytes: Vec<u8> = MARK.bytes().chain([first_byte; 8]).collect();
    BASE64_STANDARD.encode(bytes)
}

fn setting<'a>(program: &'a Value, name: &str) -> &'a Value {
    let settings = program["settings"].as_array().unwrap();
    let setting = settings.iter().find(|setting| setting["name"] == name);
    setting.unwrap_or_else(|| panic!("{name} is missing"))
}

fn partner<'a>(program: &'a Value, kind: &str) -> &'a Value {
    let partners = program["partners"].as_array().unwrap();
    partners.iter().find(|one| one["kind"] == kind).unwrap()
}

#[tokio::test]
async fn settings_show_the_configuration_without_any_secret() {
    let admin_key = format!("admin-{MARK}");
    let api_keys = format!("admin={admin_key};storefront@eu=storefront-{MARK}");
    let signing_secret = format!("whsec_{}", base64_secret(1));
    let (key, previous_key) = (base64_secret(2), base64_secret(3));
    let jwt_secret = format!("{MARK}{MARK}");
    let url_with_secret = format!("https://user:{MARK}@127.0.0.1:9/{MARK}?token={MARK}");
    let url_with_password = format!("https://user:{MARK}@127.0.0.1:9/traces?token={MARK}");
    let mail_url = format!("smtps://user:{MARK}@127.0.0.1:9");
    let stripe_secret = format!("whsec_{MARK}");
    let mut system = System::start_with(&[
        ("API_KEYS", &api_keys),
        ("JWT_SECRET", &jwt_secret),
        ("STRIPE_WEBHOOK_SECRET", &stripe_secret),
        ("STRIPE_API_KEY", &format!("sk_{MARK}")),
        ("PAYMENT_PROVIDER", "sandbox"),
        ("CARRIER_URL", &url_with_secret),
        ("CARRIER_SECRET", &signing_secret),
        ("WAREHOUSE_URL", &url_with_secret),
        ("IMPORT_URL", &url_with_secret),
        ("ENCRYPTION_KEY", &key),
        ("ENCRYPTION_KEY_PREVIOUS", &previous_key),
        ("SMTP_URL", &mail_url),
        ("MAIL_FROM", "shop@example.com"),
        ("AWS_ACCESS_KEY_ID", MARK),
        ("AWS_SECRET_ACCESS_KEY", MARK),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &url_with_password),
    ])
    .await;
    system.key = Some(admin_key);
    // The first read of the lists fails, and its error is shown as well.
    let mut settings = Value::Null;
    wait_until("the jobs to fail", async || {
        settings = system.get("/v1/settings").await.expect(200);
        let failed = |kind| partner(&settings["worker"], kind)["last_error"] != Value::Null;
        failed("warehouse") && failed("import")
    })
    .await;
    let text = settings.to_string();
    for secret in [
        MARK,
        SECRET.trim_start_matches("whsec_"),
        base64_secret(1).as_str(),
        key.as_str(),
        previous_key.as_str(),
    ] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    for name in ["API_KEYS", "JWT_SECRET", "STRIPE_WEBHOOK_SECRET"] {
        let shown = setting(&settings["gateway"], name);
        let (value, source) = (&shown["value"], &shown["source"]);
        assert_eq!((value, source), (&Value::Null, &json!("environment")));
        assert_eq!(shown["is_secret"], true);
    }
    let carrier = setting(&settings["worker"], "CARRIER_URL");
    assert_eq!(carrier["value"], "https://127.0.0.1:9");
    assert_eq!(
        setting(&settings["worker"], "SMTP_URL")["value"],
        "smtps://127.0.0.1:9"
    );
    let approval = setting(&settings["worker"], "ORDER_APPROVAL");
    assert_eq!(
        (&approval["value"], &approval["source"]),
        (&json!("auto"), &json!("default"))
    );
    system.key = Some(format!("storefront-{MARK}"));
    let refused = system.get("/v1/settings").await;
    refused.expect_problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn settings_show_versions_and_the_last_calls_to_connected_systems() {
    let system = System::start().await;
    system.set_stock("A", &[("main", 9)]).await;
    let customer = system.create_customer().await;
    let settings = system.get("/v1/settings").await.expect(200);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(settings["gateway"]["version"], version);
    assert_eq!(settings["worker"]["version"], version);
    assert_eq!(settings["worker"]["workers"], 1);
    let database = &settings["worker"]["database"];
    let kind = if system.store.is_sqlite() {
        "sqlite"
    } else {
        "postgres"
    };
    assert_eq!(database["kind"], kind);
    let database_version = database["version"].as_str().unwrap();
    assert!(database_version.starts_with(|first: char| first.is_ascii_digit()));
    assert!(database["schema_version"].as_i64().unwrap() >= 20);
    let provider = partner(&settings["worker"], "payment_provider");
    assert_eq!(provider["last_success_at"], Value::Null);
    let mail = partner(&settings["worker"], "mail_server");
    assert_eq!(mail["name"], Value::Null, "not configured");
    assert_eq!(
        partner(&settings["gateway"], "media_storage")["name"],
        "folder"
    );

    let created = system
        .post("/v1/orders", order_body(&customer, "A", 1))
        .await;
    let id = created.expect(201)["id"].as_str().unwrap().to_owned();
    system.wait_for_order(&id, "announced", is_announced).await;
    wait_until("the calls to be recorded", async || {
        let settings = system.get("/v1/settings").await.expect(200);
        ["payment_provider", "carrier"]
            .iter()
            .all(|kind| partner(&settings["worker"], kind)["last_success_at"].is_string())
    })
    .await;
    let invalid = system.get("/v1/settings?secrets=1").await;
    invalid.expect_problem(422, "INVALID_REQUEST");
}
