//! The storage of photos: a local folder and S3, outages, restarts, and files without a product.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpListener, task::JoinSet};

use crate::harness::{PythonProgram, System, TestFolder, wait_until};

const BUCKET: &str = "photos";

/// Makes a file look two hours older than it is.
fn backdate_file(file_path: &Path) {
    let opened_file = fs::File::options().write(true).open(file_path).unwrap();
    let two_hours_ago = SystemTime::now() - Duration::from_hours(2);
    opened_file.set_modified(two_hours_ago).unwrap();
}

/// Uploads a photo while no worker runs; returns the stored files, which no product refers to.
async fn create_orphans(system: &mut System) -> Vec<String> {
    let files_before = system.stored_files();
    system.worker.kill();
    let reply = system
        .upload("A", "image/jpeg", crate::photos::jpeg())
        .await;
    assert!(matches!(reply.status, 503 | 504), "{}", reply.body);
    let mut orphaned_files = system.stored_files();
    orphaned_files.retain(|file_name| !files_before.contains(file_name));
    assert_eq!(orphaned_files.len(), 1);
    orphaned_files
}

#[tokio::test]
async fn files_without_a_product_are_deleted_after_an_hour() {
    let mut system = System::start_with(&[("REQUEST_TIMEOUT_MS", "1000")]).await;
    system.create_product_with_stock("A", &[]).await;
    let photo = system.add_photo("A").await;
    let kept_id = photo["id"].as_str().unwrap().to_owned();
    let media_folder = system.folder.join("media");
    let old_id = create_orphans(&mut system).await.remove(0);
    system.restart_worker().await;
    let young_id = create_orphans(&mut system).await.remove(0);
    system.gateway.kill();
    system.restart_worker().await;
    // A file that a killed gateway was writing, and a file of somebody else.
    let unfinished_name = format!("{old_id}#1");
    fs::write(media_folder.join(&unfinished_name), b"half").unwrap();
    fs::write(media_folder.join("README.txt"), b"ours").unwrap();
    for file_name in [
        &kept_id,
        &old_id,
        &unfinished_name,
        &"README.txt".to_owned(),
    ] {
        backdate_file(&media_folder.join(file_name));
    }
    system.restart_gateway().await;
    let mut expected_files = vec![kept_id.clone(), young_id, "README.txt".to_owned()];
    expected_files.sort();
    wait_until("the old files to be deleted", async || {
        system.stored_files() == expected_files
    })
    .await;
    let product = system.get("/v1/products/A").await.expect(200);
    assert_eq!(product["images"], json!([photo]));
    let url = photo["url"].as_str().unwrap();
    assert_eq!(system.get_file(url, &[]).await.status, 200);
}

#[tokio::test]
async fn young_files_are_kept_however_often_the_gateway_sweeps() {
    let mut system =
        System::start_with(&[("REQUEST_TIMEOUT_MS", "1000"), ("MEDIA_SWEEP_SECONDS", "1")]).await;
    system.create_product_with_stock("A", &[]).await;
    let old_id = create_orphans(&mut system).await.remove(0);
    system.restart_worker().await;
    let young_id = create_orphans(&mut system).await.remove(0);
    system.restart_worker().await;
    // When the second file is deleted, at least one whole sweep has seen the young file.
    for _ in 0..2 {
        let media_folder = system.folder.join("media");
        fs::write(media_folder.join(&old_id), b"old").unwrap();
        backdate_file(&media_folder.join(&old_id));
        wait_until("the old file to be deleted", async || {
            !system.stored_files().contains(&old_id)
        })
        .await;
        assert_eq!(system.stored_files(), std::slice::from_ref(&young_id));
    }
}

#[tokio::test]
async fn storage_of_another_database_is_not_swept() {
    let mut system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    system.gateway.kill();
    let media_folder = system.folder.join("media");
    fs::create_dir_all(&media_folder).unwrap();
    for photo_number in 0..41 {
        let photo_file = media_folder.join(format!("00000000-0000-4000-8000-{photo_number:012}"));
        fs::write(&photo_file, b"photo of another shop").unwrap();
        // The others are young, and do not count.
        if photo_number < 21 {
            backdate_file(&photo_file);
        }
    }
    system.restart_gateway().await;
    wait_until("the gateway to report the storage", async || {
        let gateway_log = fs::read_to_string(system.folder.join("gateway.log")).unwrap();
        gateway_log.contains("too many stored photos belong to no product; nothing is deleted")
    })
    .await;
    assert_eq!(system.stored_files().len(), 41);
}

#[tokio::test]
async fn gateway_killed_between_storing_and_the_product_change_loses_nothing() {
    let mut system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    system.set_variable("MEDIA_SWEEP_SECONDS", Some("1"));
    // The worker can't commit, so the gateway waits with the files stored.
    let write_lock = system.store.lock_writes();
    let upload = system.upload_request("A", "image/jpeg", crate::photos::jpeg());
    let upload = tokio::spawn(upload.send());
    wait_until("the file to be stored", async || {
        system
            .stored_files()
            .iter()
            .any(|file_name| !file_name.contains('#'))
    })
    .await;
    system.gateway.kill();
    assert!(upload.await.unwrap().is_err());
    for file_name in system.stored_files() {
        backdate_file(&system.folder.join("media").join(file_name));
    }
    drop(write_lock);
    system.restart_gateway().await;
    // Whether the worker has executed the request or not: every file has a product, every photo has its file.
    wait_until("files and products to agree", async || {
        let product = system.get("/v1/products/A").await.expect(200);
        let mut referenced_ids: Vec<String> = image_ids(&product);
        referenced_ids.sort();
        system.stored_files() == referenced_ids
    })
    .await;
}

fn image_ids(product: &Value) -> Vec<String> {
    let images = product["images"].as_array().unwrap();
    let ids = images
        .iter()
        .map(|image| image["id"].as_str().unwrap().to_owned());
    ids.collect()
}

#[tokio::test]
async fn storage_that_can_not_be_written_to_is_reported_and_nothing_is_lost() {
    let mut system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    let photo = system.add_photo("A").await;
    let photo_url = photo["url"].as_str().unwrap().to_owned();
    let photo_file = system
        .folder
        .join("media")
        .join(photo["id"].as_str().unwrap());
    let stored_bytes = fs::read(&photo_file).unwrap();
    // A folder below a file: nothing can be created there, not even by the superuser.
    let blocked_path = photo_file.join("media");
    system.gateway.terminate();
    system.set_variable("MEDIA_URL", Some(&blocked_path.display().to_string()));
    system.restart_gateway().await;
    let reply = system
        .upload("A", "image/jpeg", crate::photos::jpeg())
        .await;
    assert!(reply.headers.contains_key("retry-after"));
    reply.expect_problem(503, "UNAVAILABLE");
    let product = system.get("/v1/products/A").await.expect(200);
    assert_eq!(product["images"], json!([photo]));
    assert_eq!(fs::read(&photo_file).unwrap(), stored_bytes);

    system.gateway.terminate();
    let media_folder = system.folder.join("media").display().to_string();
    system.set_variable("MEDIA_URL", Some(&media_folder));
    system.restart_gateway().await;
    system.restart_worker().await;
    assert_eq!(system.get_file(&photo_url, &[]).await.bytes, stored_bytes);
    system.add_photo("A").await;
}

#[tokio::test]
async fn gateways_share_a_folder() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    let photo = system.add_photo("A").await;
    let (_gateway, base_url) = system.start_additional_gateway().await;
    let url = format!("{base_url}{}", photo["url"].as_str().unwrap());
    assert_eq!(system.client.get(url).send().await.unwrap().status(), 200);
}

/// The names of the files in the bucket.
async fn list_objects(system: &System, port: &str) -> Vec<String> {
    let url = format!("http://127.0.0.1:{port}/{BUCKET}?list-type=2");
    let list_response = system.client.get(url).send().await.unwrap();
    let list_response = list_response.text().await.unwrap();
    let key_texts = list_response.split("<Key>").skip(1);
    let object_names = key_texts.map(|key| key.split("</Key>").next().unwrap().to_owned());
    object_names.collect()
}

#[tokio::test]
async fn photos_are_stored_in_s3() {
    let folder = TestFolder::new();
    let server_log = folder.join("s3.log");
    let mut storage_server =
        PythonProgram::start("s3_server.py", &["0", BUCKET], server_log.clone());
    let port = storage_server.port().await;
    let storage_url = format!("http://127.0.0.1:{port}");
    let mut system = System::start_in_folder(
        folder,
        &[
            ("MEDIA_URL", "s3://photos/shop/images"),
            ("MEDIA_SWEEP_SECONDS", "1"),
            ("REQUEST_TIMEOUT_MS", "1000"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &storage_url),
            ("AWS_ALLOW_HTTP", "true"),
        ],
    )
    .await;
    system.create_product_with_stock("A", &[]).await;
    let photo_bytes = crate::photos::photo(640, 480, image::ImageFormat::Png);
    let uploaded_photo = system
        .upload("A", "image/png", photo_bytes)
        .await
        .expect(201);
    let photo_id = uploaded_photo["id"].as_str().unwrap().to_owned();
    let expected_objects = [
        format!("shop/images/{photo_id}"),
        format!("shop/images/{photo_id}-320"),
    ];
    assert_eq!(list_objects(&system, &port).await, expected_objects);

    let photo_url = uploaded_photo["url"].as_str().unwrap().to_owned();
    let whole_file = system.get_file(&photo_url, &[]).await;
    assert_eq!(
        (whole_file.status, &whole_file.headers["content-type"]),
        (200, &"image/png".parse().unwrap())
    );
    let partial_file = system.get_file(&photo_url, &[("range", "bytes=3-9")]).await;
    assert_eq!(
        (partial_file.status, &partial_file.bytes[..]),
        (206, &whole_file.bytes[3..10])
    );
    let etag = whole_file.headers["etag"].to_str().unwrap();
    assert_eq!(
        system
            .get_file(&photo_url, &[("if-none-match", etag)])
            .await
            .status,
        304
    );
    let small_copy = system.get_file(&format!("{photo_url}/320"), &[]).await;
    assert_eq!(
        image::load_from_memory(&small_copy.bytes).unwrap().width(),
        320
    );
    let fallback_file = system.get_file(&format!("{photo_url}/1280"), &[]).await;
    assert_eq!(fallback_file.bytes, whole_file.bytes);

    // A refused upload leaves nothing.
    let reply = system
        .upload("B", "image/jpeg", crate::photos::jpeg())
        .await;
    reply.expect_problem(404, "NOT_FOUND");
    assert_eq!(list_objects(&system, &port).await, expected_objects);

    // An upload whose outcome is unknown leaves a file, until it is swept.
    system.worker.kill();
    let reply = system
        .upload("A", "image/jpeg", crate::photos::jpeg())
        .await;
    assert!(matches!(reply.status, 503 | 504), "{}", reply.body);
    assert_eq!(list_objects(&system, &port).await.len(), 3);
    system.restart_worker().await;
    storage_server.signal("USR1");
    wait_until("the unused file to be deleted", async || {
        list_objects(&system, &port).await == expected_objects
    })
    .await;

    // An outage of the storage.
    drop(storage_server);
    let reply = system
        .upload("A", "image/jpeg", crate::photos::jpeg())
        .await;
    assert!(reply.headers.contains_key("retry-after"));
    reply.expect_problem(503, "UNAVAILABLE");
    assert_eq!(system.get_file(&photo_url, &[]).await.status, 503);
    let product = system.get("/v1/products/A").await.expect(200);
    assert_eq!(product["images"], json!([uploaded_photo]));
    // The reference goes at once, the files as soon as the storage is back.
    storage_server = PythonProgram::start("s3_server.py", &[&port, BUCKET], server_log);
    assert_eq!(storage_server.port().await, port);
    let photo = system.add_photo("A").await;
    system.delete("/v1/products/A").await.expect(204);
    let photo_url = photo["url"].as_str().unwrap();
    assert_eq!(system.get_file(photo_url, &[]).await.status, 404);
}

#[tokio::test]
async fn uploads_that_wait_for_the_storage_are_limited() {
    // An S3 server that accepts requests and does not respond.
    let storage = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let storage_url = format!("http://{}", storage.local_addr().unwrap());
    let system = System::start_with(&[
        ("MEDIA_URL", "s3://photos"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", &storage_url),
        ("AWS_ALLOW_HTTP", "true"),
    ])
    .await;
    system.create_product_with_stock("A", &[]).await;
    // As many as the gateway has in memory at a time.
    let mut uploads = JoinSet::new();
    for _ in 0..6 {
        let upload = system.upload_request("A", "image/jpeg", crate::photos::jpeg());
        uploads.spawn(upload.send());
    }
    let mut connections = Vec::new();
    let mut put_count = 0;
    while put_count < 6 {
        let (mut connection, _) = storage.accept().await.unwrap();
        let mut method_bytes = [0; 3];
        connection.read_exact(&mut method_bytes).await.unwrap();
        // The sweep lists the files in the meantime.
        put_count += usize::from(&method_bytes == b"PUT");
        connections.push(connection);
    }
    let reply = system
        .upload("A", "image/jpeg", crate::photos::jpeg())
        .await;
    assert!(reply.headers.contains_key("retry-after"));
    let problem = reply.expect_problem(503, "UNAVAILABLE");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("too many photos"), "{detail}");
}
