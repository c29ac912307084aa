//! `GET /v1/settings`: the effective configuration without secrets, versions, and connected systems.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::harness::{SHIPPER_SECRET, System, has_shipping_label, order_body, wait_until};

/// Part of every secret of the test, in its plain form or in base64.
const SECRET_MARK: &str = "MARKED-SECRET-0123456789";

/// A secret of 32 bytes in base64.
fn base64_secret(padding_byte: u8) -> String {
    let bytes: Vec<u8> = SECRET_MARK.bytes().chain([padding_byte; 8]).collect();
    BASE64_STANDARD.encode(bytes)
}

fn setting<'a>(program: &'a Value, variable_name: &str) -> &'a Value {
    let settings = program["settings"].as_array().unwrap();
    let setting = settings
        .iter()
        .find(|setting| setting["name"] == variable_name);
    setting.unwrap_or_else(|| panic!("{variable_name} is missing"))
}

fn partner<'a>(program: &'a Value, partner_kind: &str) -> &'a Value {
    let partners = program["partners"].as_array().unwrap();
    partners
        .iter()
        .find(|partner_json| partner_json["kind"] == partner_kind)
        .unwrap()
}

#[tokio::test]
async fn settings_show_the_configuration_without_any_secret() {
    let admin_key = format!("admin-{SECRET_MARK}");
    let api_keys = format!("admin={admin_key};storefront@eu=storefront-{SECRET_MARK}");
    let carrier_secret = format!("whsec_{}", base64_secret(1));
    let (encryption_key, previous_encryption_key) = (base64_secret(2), base64_secret(3));
    let jwt_secret = format!("{SECRET_MARK}{SECRET_MARK}");
    let url_with_secret =
        format!("https://user:{SECRET_MARK}@127.0.0.1:9/{SECRET_MARK}?token={SECRET_MARK}");
    let url_with_password =
        format!("https://user:{SECRET_MARK}@127.0.0.1:9/traces?token={SECRET_MARK}");
    let mail_url = format!("smtps://user:{SECRET_MARK}@127.0.0.1:9");
    let stripe_webhook_secret = format!("whsec_{SECRET_MARK}");
    let mut system = System::start_with(&[
        ("API_KEYS", &api_keys),
        ("JWT_SECRET", &jwt_secret),
        ("STRIPE_WEBHOOK_SECRET", &stripe_webhook_secret),
        ("STRIPE_API_KEY", &format!("sk_{SECRET_MARK}")),
        ("PAYMENT_PROVIDER", "sandbox"),
        ("CARRIER_URL", &url_with_secret),
        ("CARRIER_SECRET", &carrier_secret),
        ("WAREHOUSE_URL", &url_with_secret),
        ("IMPORT_URL", &url_with_secret),
        ("ENCRYPTION_KEY", &encryption_key),
        ("ENCRYPTION_KEY_PREVIOUS", &previous_encryption_key),
        ("SMTP_URL", &mail_url),
        ("MAIL_FROM", "shop@example.com"),
        ("AWS_ACCESS_KEY_ID", SECRET_MARK),
        ("AWS_SECRET_ACCESS_KEY", SECRET_MARK),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &url_with_password),
    ])
    .await;
    system.api_key = Some(admin_key);
    // The first read of the lists fails, and its error is shown as well.
    let mut settings = Value::Null;
    wait_until("the jobs to fail", async || {
        settings = system.get("/v1/settings").await.expect(200);
        let has_failed = |kind| partner(&settings["worker"], kind)["last_error"] != Value::Null;
        has_failed("warehouse") && has_failed("import")
    })
    .await;
    let settings_text = settings.to_string();
    for secret in [
        SECRET_MARK,
        SHIPPER_SECRET.trim_start_matches("whsec_"),
        base64_secret(1).as_str(),
        encryption_key.as_str(),
        previous_encryption_key.as_str(),
    ] {
        assert!(
            !settings_text.contains(secret),
            "{secret} is in {settings_text}"
        );
    }
    for name in ["API_KEYS", "JWT_SECRET", "STRIPE_WEBHOOK_SECRET"] {
        let shown_setting = setting(&settings["gateway"], name);
        let (value, source) = (&shown_setting["value"], &shown_setting["source"]);
        assert_eq!((value, source), (&Value::Null, &json!("environment")));
        assert_eq!(shown_setting["is_secret"], true);
    }
    let carrier_setting = setting(&settings["worker"], "CARRIER_URL");
    assert_eq!(carrier_setting["value"], "https://127.0.0.1:9");
    assert_eq!(
        setting(&settings["worker"], "SMTP_URL")["value"],
        "smtps://127.0.0.1:9"
    );
    let approval_setting = setting(&settings["worker"], "ORDER_APPROVAL");
    assert_eq!(
        (&approval_setting["value"], &approval_setting["source"]),
        (&json!("auto"), &json!("default"))
    );
    system.api_key = Some(format!("storefront-{SECRET_MARK}"));
    let refused_reply = system.get("/v1/settings").await;
    refused_reply.expect_problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn settings_show_versions_and_the_last_calls_to_connected_systems() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[("main", 9)]).await;
    let customer_id = system.create_customer().await;
    let settings = system.get("/v1/settings").await.expect(200);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(settings["gateway"]["version"], version);
    assert_eq!(settings["worker"]["version"], version);
    assert_eq!(settings["worker"]["workers"], 1);
    let database = &settings["worker"]["database"];
    let database_kind = if system.store.is_sqlite() {
        "sqlite"
    } else {
        "postgres"
    };
    assert_eq!(database["kind"], database_kind);
    let database_version = database["version"].as_str().unwrap();
    assert!(database_version.starts_with(|first: char| first.is_ascii_digit()));
    assert!(database["schema_version"].as_i64().unwrap() >= 20);
    let provider = partner(&settings["worker"], "payment_provider");
    assert_eq!(provider["last_success_at"], Value::Null);
    let mail_server = partner(&settings["worker"], "mail_server");
    assert_eq!(mail_server["name"], Value::Null, "not configured");
    assert_eq!(
        partner(&settings["gateway"], "media_storage")["name"],
        "folder"
    );

    let order_reply = system
        .post("/v1/orders", order_body(&customer_id, "A", 1))
        .await;
    let id = order_reply.expect(201)["id"].as_str().unwrap().to_owned();
    system
        .wait_for_order(&id, "announced", has_shipping_label)
        .await;
    wait_until("the calls to be recorded", async || {
        let settings = system.get("/v1/settings").await.expect(200);
        ["payment_provider", "carrier"].iter().all(|partner_kind| {
            partner(&settings["worker"], partner_kind)["last_success_at"].is_string()
        })
    })
    .await;
    let refused_reply = system.get("/v1/settings?secrets=1").await;
    refused_reply.expect_problem(422, "INVALID_REQUEST");
}
