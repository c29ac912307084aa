//! The PostgreSQL schema after an upgrade of a database with orders, which is migrated statement by statement.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    harness::{Process, Store, System, Tables, TestFolder, WORKER, setting, wait_until},
    upgrade::{create_orders, previous_worker, restart_with, wait_until_processing},
};

/// The definitions of all tables, indexes, functions and triggers.
fn schema_definitions(store: &Store) -> String {
    let pg_dump_path = Path::new(&setting("TEST_POSTGRES_BIN")).join("pg_dump");
    let dump_output = Command::new(pg_dump_path)
        .args(["--schema-only", &store.url()])
        .output()
        .unwrap();
    assert!(dump_output.status.success());
    let dump_text = String::from_utf8(dump_output.stdout).unwrap();
    // Lines with a random token.
    let lines = dump_text.lines().filter(|line| !line.contains("restrict "));
    lines.collect::<Vec<_>>().join("\n")
}

fn start_migration(store: &Store) -> std::process::Child {
    Process::command(WORKER)
        .arg("migrate")
        .env("DATABASE_URL", store.url())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn upgraded_database_has_the_schema_of_a_new_one() {
    let folder = TestFolder::new();
    let (store, new_store) = (Store::new(&folder), Store::new(&folder));
    if store.is_sqlite() {
        return;
    }
    let Some(previous_worker) = previous_worker() else {
        return;
    };
    assert!(start_migration(&new_store).wait().unwrap().success());
    let mut system = System::start_with_store(folder, store, &previous_worker).await;
    system
        .create_product_with_stock("mug", &[("berlin", 1_000)])
        .await;
    let customer_id = system.create_customer().await;
    create_orders(&system, &customer_id, 2).await;
    restart_with(&mut system, WORKER).await;
    assert_eq!(
        schema_definitions(&system.store),
        schema_definitions(&new_store)
    );
}

#[tokio::test]
async fn interrupted_migration_continues_while_orders_are_taken() {
    let folder = TestFolder::new();
    let store = Store::new(&folder);
    if store.is_sqlite() {
        return;
    }
    let Some(previous_worker) = previous_worker() else {
        return;
    };
    let mut system = System::start_with_store(folder, store, &previous_worker).await;
    system
        .create_product_with_stock("mug", &[("berlin", 1_000)])
        .await;
    let customer_id = system.create_customer().await;
    let mut ids = create_orders(&system, &customer_id, 2).await;

    // No index can be completed while this transaction has an older snapshot.
    let open_transaction = system.store.begin_transaction(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; DO $$ BEGIN PERFORM 1; END $$",
    );
    let mut migration = start_migration(&system.store);
    let running_builds_sql =
        "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()";
    wait_until("an index to be built", async || {
        system.store.run(Tables::Worker, running_builds_sql) != "0"
    })
    .await;
    ids.extend(create_orders(&system, &customer_id, 5).await);
    migration.kill().unwrap();
    migration.wait().unwrap();
    // Two further processes migrate at the same time.
    let mut migrations = [
        start_migration(&system.store),
        start_migration(&system.store),
    ];
    ids.extend(create_orders(&system, &customer_id, 5).await);
    open_transaction.commit();
    for migration in &mut migrations {
        assert!(migration.wait().unwrap().success());
    }
    ids.extend(create_orders(&system, &customer_id, 5).await);
    restart_with(&mut system, WORKER).await;
    wait_until_processing(&system, &ids).await;
    let invalid_indexes_sql = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(system.store.run(Tables::Worker, invalid_indexes_sql), "0");
    system.assert_verified();
}
