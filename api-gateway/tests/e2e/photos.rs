//! Photos of products: upload, order, deletion, and serving.

use std::{fs, io::Cursor};

use image::{
    DynamicImage, ExtendedColorType, GenericImageView, ImageEncoder, ImageFormat, Rgb, RgbImage,
    codecs::jpeg::JpegEncoder,
};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

use crate::harness::{Reply, System, run_worker, send};

/// A picture whose left half is red and whose right half is blue.
pub(crate) fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| {
        if x < width / 2 {
            Rgb([220, 20, 20])
        } else {
            Rgb([20, 20, 220])
        }
    })
}

/// The file of a picture of this size.
pub(crate) fn photo(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = DynamicImage::ImageRgb8(picture(width, height));
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A small JPEG file.
pub(crate) fn jpeg() -> Vec<u8> {
    photo(40, 30, ImageFormat::Jpeg)
}

impl System {
    /// Builds an upload without sending it.
    pub(crate) fn upload_request(
        &self,
        sku: &str,
        content_type: &str,
        bytes: Vec<u8>,
    ) -> reqwest::RequestBuilder {
        self.request(Method::POST, &format!("/v1/products/{sku}/images"))
            .header("content-type", content_type)
            .body(bytes)
    }

    pub(crate) async fn upload(&self, sku: &str, content_type: &str, bytes: Vec<u8>) -> Reply {
        send(self.upload_request(sku, content_type, bytes)).await
    }

    /// Uploads a small photo and returns it.
    pub(crate) async fn add_photo(&self, sku: &str) -> Value {
        self.upload(sku, "image/jpeg", jpeg()).await.expect(201)
    }

    /// Status, headers and bytes of a file.
    pub(crate) async fn get_file(&self, path: &str, headers: &[(&str, &str)]) -> ServedFile {
        let mut request = self.client.get(self.url(path));
        for (header_name, header_value) in headers {
            request = request.header(*header_name, *header_value);
        }
        let response = request.send().await.unwrap();
        ServedFile {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            bytes: response.bytes().await.unwrap().into(),
        }
    }

    /// The names of the files in the local storage.
    pub(crate) fn stored_files(&self) -> Vec<String> {
        let Ok(folder_entries) = fs::read_dir(self.folder.join("media")) else {
            return Vec::new();
        };
        let file_names = folder_entries
            .map(|folder_entry| folder_entry.unwrap().file_name().into_string().unwrap());
        let mut file_names: Vec<_> = file_names.collect();
        file_names.sort();
        file_names
    }
}

pub(crate) struct ServedFile {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

fn id_of(photo: &Value) -> &str {
    photo["id"].as_str().unwrap()
}

#[tokio::test]
async fn uploaded_photo_is_served_in_three_sizes() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    for (format, content_type) in [
        (ImageFormat::Jpeg, "image/jpeg"),
        (ImageFormat::Png, "image/png"),
        (ImageFormat::WebP, "image/webp"),
    ] {
        let photo_bytes = photo(1500, 750, format);
        let reply = system.upload("A", content_type, photo_bytes.clone()).await;
        let location = reply.headers["location"].to_str().unwrap().to_owned();
        assert!(!reply.headers.contains_key("etag"));
        let uploaded_photo = reply.expect(201);
        assert_eq!(uploaded_photo["url"], location);
        assert_eq!(uploaded_photo["content_type"], content_type);
        assert_eq!(
            (&uploaded_photo["width"], &uploaded_photo["height"]),
            (&json!(1500), &json!(750))
        );
        let url = format!("/media/{}", id_of(&uploaded_photo));
        assert_eq!(
            uploaded_photo["variants"],
            json!([
                {"url": format!("{url}/320"), "width": 320, "height": 160},
                {"url": format!("{url}/1280"), "width": 1280, "height": 640},
            ])
        );
        for (path, expected_size) in [
            (url.clone(), (1500, 750)),
            (format!("{url}/320"), (320, 160)),
            (format!("{url}/1280"), (1280, 640)),
        ] {
            let file = system.get_file(&path, &[]).await;
            assert_eq!(file.status, 200, "{path}");
            assert_eq!(file.headers["content-type"], content_type);
            assert_eq!(file.headers["x-content-type-options"], "nosniff");
            let policy = file.headers["content-security-policy"].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'"), "{policy}");
            assert_eq!(
                file.headers["cache-control"],
                "public, max-age=31536000, immutable"
            );
            assert_eq!(file.headers["content-length"], file.bytes.len().to_string());
            let image = image::load_from_memory_with_format(&file.bytes, format).unwrap();
            assert_eq!(image.dimensions(), expected_size);
            let Rgb([red, _, blue]) = *image.to_rgb8().get_pixel(1, 1);
            assert!(red > 150 && blue < 100, "{red} {blue}");
            assert!(file.bytes != photo_bytes || format != ImageFormat::Jpeg);
        }
    }
    let product = system.get("/v1/products/A").await.expect(200);
    assert_eq!(product["images"].as_array().unwrap().len(), 3);
    assert_eq!(system.stored_files().len(), 9);
    let verification = run_worker(&system, &["verify"]);
    assert!(verification.status.success(), "{verification:?}");
}

#[tokio::test]
async fn small_photo_is_not_enlarged_and_is_served_for_every_width() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    let photo = system.add_photo("A").await;
    assert_eq!(photo["variants"], json!([]));
    let full_size_file = system.get_file(photo["url"].as_str().unwrap(), &[]).await;
    for width in ["320", "1280"] {
        let path = format!("/media/{}/{width}", id_of(&photo));
        let file = system.get_file(&path, &[]).await;
        assert_eq!((file.status, &file.bytes), (200, &full_size_file.bytes));
        assert_eq!(file.headers["etag"], full_size_file.headers["etag"]);
    }
}

#[tokio::test]
async fn photo_is_turned_upright_and_loses_its_metadata() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    // One entry in the EXIF directory: orientation 6, "rotate by 90 degrees clockwise".
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    exif.extend_from_slice(b"GPSLatitude 52.5200 N");
    let mut photo_bytes = Vec::new();
    let mut encoder = JpegEncoder::new(&mut photo_bytes);
    encoder.set_exif_metadata(exif).unwrap();
    encoder
        .write_image(&picture(60, 40), 60, 40, ExtendedColorType::Rgb8)
        .unwrap();
    assert!(contains(&photo_bytes, b"GPSLatitude"));
    let uploaded_photo = system
        .upload("A", "image/jpeg", photo_bytes)
        .await
        .expect(201);
    assert_eq!(
        (&uploaded_photo["width"], &uploaded_photo["height"]),
        (&json!(40), &json!(60))
    );
    let file = system
        .get_file(uploaded_photo["url"].as_str().unwrap(), &[])
        .await;
    for metadata in [&b"GPSLatitude"[..], b"Exif"] {
        assert!(!contains(&file.bytes, metadata));
    }
    let pixels = image::load_from_memory(&file.bytes).unwrap().to_rgb8();
    // The left half is at the top now.
    let (top_pixel, bottom_pixel) = (pixels.get_pixel(35, 5), pixels.get_pixel(5, 55));
    assert!(
        top_pixel[0] > 150 && bottom_pixel[2] > 150,
        "{top_pixel:?} {bottom_pixel:?}"
    );
}

pub(crate) fn contains(bytes: &[u8], searched_bytes: &[u8]) -> bool {
    bytes
        .windows(searched_bytes.len())
        .any(|window| window == searched_bytes)
}

#[tokio::test]
async fn ranges_and_conditions_are_honoured() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    let photo = system.add_photo("A").await;
    let path = photo["url"].as_str().unwrap();
    let whole_file = system.get_file(path, &[]).await;
    let etag = whole_file.headers["etag"].to_str().unwrap().to_owned();
    let file_size = whole_file.bytes.len();
    assert_eq!(whole_file.headers["accept-ranges"], "bytes");

    for (range, expected_range) in [
        ("bytes=0-9", 0..10),
        ("bytes=5-", 5..file_size),
        ("bytes=-7", file_size - 7..file_size),
        ("bytes=10-999999999", 10..file_size),
    ] {
        let partial_file = system.get_file(path, &[("range", range)]).await;
        assert_eq!(partial_file.status, 206, "{range}");
        assert_eq!(partial_file.bytes, whole_file.bytes[expected_range.clone()]);
        assert_eq!(
            partial_file.headers["content-range"],
            format!(
                "bytes {}-{}/{file_size}",
                expected_range.start,
                expected_range.end - 1
            )
        );
        assert_eq!(partial_file.headers["content-type"], "image/jpeg");
    }
    let outside_reply = system.get_file(path, &[("range", "bytes=999999-")]).await;
    assert_eq!(outside_reply.status, 416);
    assert_eq!(
        outside_reply.headers["content-range"],
        format!("bytes */{file_size}")
    );
    for ignored_range in ["bytes=0-1,4-5", "lines=1-2"] {
        assert_eq!(
            system
                .get_file(path, &[("range", ignored_range)])
                .await
                .status,
            200
        );
    }
    let current_headers = [("range", "bytes=0-9"), ("if-range", etag.as_str())];
    assert_eq!(system.get_file(path, &current_headers).await.status, 206);
    let outdated_headers = [("range", "bytes=0-9"), ("if-range", "\"other\"")];
    assert_eq!(system.get_file(path, &outdated_headers).await.status, 200);

    for matching_tag in [etag.as_str(), "*", &format!("\"x\", W/{etag}")] {
        let unchanged_file = system
            .get_file(path, &[("if-none-match", matching_tag)])
            .await;
        assert_eq!(
            (unchanged_file.status, unchanged_file.bytes.len()),
            (304, 0),
            "{matching_tag}"
        );
        assert_eq!(unchanged_file.headers["etag"], etag.as_str());
    }
    let file_for_other_tag = system
        .get_file(path, &[("if-none-match", "\"other\"")])
        .await;
    assert_eq!(
        (file_for_other_tag.status, &file_for_other_tag.bytes),
        (200, &whole_file.bytes)
    );

    let head_response = system.client.head(system.url(path)).send().await.unwrap();
    assert_eq!(head_response.status(), 200);
    assert_eq!(
        head_response.headers()["content-length"],
        file_size.to_string()
    );
    assert_eq!(head_response.headers()["content-type"], "image/jpeg");

    for missing_path in [
        "/media/5f2b0c1e-2345-4abc-8def-0123456789ab".to_owned(),
        "/media/..%2forders.db".to_owned(),
        "/media/%2e%2e%2f%2e%2e%2fetc%2fpasswd".to_owned(),
        "/media/worker.log".to_owned(),
        format!("{path}/64"),
        format!("{path}/..%2fx"),
    ] {
        assert_eq!(
            system.get_file(&missing_path, &[]).await.status,
            404,
            "{missing_path}"
        );
    }
}

#[tokio::test]
async fn photos_are_ordered_shown_beside_other_urls_and_deleted() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    let external_url = "https://img.example.com/a.jpg";
    let patch = json!({"image_urls": [external_url]});
    system.patch("/v1/products/A", patch).await.expect(200);
    let first_photo = system.add_photo("A").await;
    let second_photo = system.add_photo("A").await;
    assert_ne!(first_photo["id"], second_photo["id"]);
    let product = system.get("/v1/products/A").await.expect(200);
    assert_eq!(product["images"], json!([first_photo, second_photo]));
    let urls = json!([first_photo["url"], second_photo["url"], external_url]);
    assert_eq!(product["image_urls"], urls);

    // A client may send back the list that it has read.
    let patch = json!({"image_urls": urls, "name": "Anchor"});
    let product = system.patch("/v1/products/A", patch).await.expect(200);
    assert_eq!(product["image_urls"], urls);
    let patch = json!({"image_urls": null});
    let product = system.put("/v1/products/A", patch).await.expect(200);
    assert_eq!(
        product["image_urls"],
        json!([first_photo["url"], second_photo["url"]])
    );

    let images_path = "/v1/products/A/images";
    let photo_order = json!({"ids": [second_photo["id"], first_photo["id"]]});
    let product = system
        .put(images_path, photo_order.clone())
        .await
        .expect(200);
    assert_eq!(product["images"], json!([second_photo, first_photo]));
    let unchanged_reply = system.put(images_path, photo_order).await.expect(200);
    assert_eq!(unchanged_reply["version"], product["version"]);
    for invalid_ids in [
        json!([first_photo["id"]]),
        json!([first_photo["id"], first_photo["id"]]),
        json!([
            first_photo["id"],
            second_photo["id"],
            "5f2b0c1e-2345-4abc-8def-0123456789ab"
        ]),
    ] {
        let problem_reply = system.put(images_path, json!({"ids": invalid_ids})).await;
        assert_eq!(problem_reply.expect(422)["errors"][0]["pointer"], "/ids");
    }

    // A photo belongs to one product.
    system.create_product_with_stock("B", &[]).await;
    let patch = json!({"image_urls": [first_photo["url"]]});
    let problem = system.patch("/v1/products/B", patch).await.expect(422);
    assert_eq!(problem["errors"][0]["pointer"], "/image_urls/0");
    let path = format!("/v1/products/B/images/{}", id_of(&first_photo));
    system.delete(&path).await.expect_problem(404, "NOT_FOUND");

    let path = format!("/v1/products/A/images/{}", id_of(&first_photo));
    system.delete(&path).await.expect(204);
    system.delete(&path).await.expect_problem(404, "NOT_FOUND");
    assert_eq!(
        system
            .get_file(first_photo["url"].as_str().unwrap(), &[])
            .await
            .status,
        404
    );
    assert_eq!(
        system
            .get_file(second_photo["url"].as_str().unwrap(), &[])
            .await
            .status,
        200
    );

    // The last reference goes with the product.
    system.delete("/v1/products/A").await.expect(204);
    assert_eq!(
        system
            .get_file(second_photo["url"].as_str().unwrap(), &[])
            .await
            .status,
        404
    );
    assert_eq!(system.stored_files(), Vec::<String>::new());
    system
        .post(
            "/v1/products",
            json!({"sku": "A", "name": "Anchor", "price": 1, "currency": "EUR"}),
        )
        .await
        .expect(201);
    let product = system.get("/v1/products/A").await.expect(200);
    assert_eq!(product["images"], json!([]));

    let events = system
        .get("/v1/events?type=product.updated&limit=200")
        .await
        .expect(200);
    let photo_counts: Vec<_> = events["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["data"]["images"].as_array().map_or(0, Vec::len))
        .collect();
    assert_eq!(photo_counts, [0, 1, 2, 2, 2, 2, 1]);
}

#[tokio::test]
async fn the_same_photo_of_two_products_is_deleted_with_each_of_them() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    system.create_product_with_stock("B", &[]).await;
    let photo_of_a = system.add_photo("A").await;
    let photo_of_b = system.add_photo("B").await;
    system.delete("/v1/products/A").await.expect(204);
    assert_eq!(
        system
            .get_file(photo_of_a["url"].as_str().unwrap(), &[])
            .await
            .status,
        404
    );
    assert_eq!(
        system
            .get_file(photo_of_b["url"].as_str().unwrap(), &[])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn repeated_upload_gets_the_first_answer_and_leaves_no_files() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    let upload = |bytes: Vec<u8>| {
        let request = system.upload_request("A", "image/jpeg", bytes);
        send(request.header("idempotency-key", "photo-1"))
    };
    let first_upload = upload(jpeg()).await.expect(201);
    let repeated_reply = upload(jpeg()).await;
    assert_eq!(repeated_reply.headers["idempotent-replayed"], "true");
    assert_eq!(repeated_reply.expect(201), first_upload);
    assert_eq!(system.stored_files(), [id_of(&first_upload)]);
    let other_jpeg = photo(20, 20, ImageFormat::Jpeg);
    upload(other_jpeg)
        .await
        .expect_problem(422, "IDEMPOTENCY_CONFLICT");
    assert_eq!(system.stored_files(), [id_of(&first_upload)]);
    let product = system.get("/v1/products/A").await.expect(200);
    assert_eq!(product["images"], json!([first_upload]));

    // Sixteen at once under one key: one photo.
    let uploads = (0..16).map(|_| {
        let request = system.upload_request("A", "image/jpeg", jpeg());
        send(request.header("idempotency-key", "photo-2"))
    });
    let replies = futures_util::future::join_all(uploads).await;
    let accepted_replies: Vec<_> = replies
        .into_iter()
        .filter(|reply| reply.status == 201)
        .collect();
    assert!(!accepted_replies.is_empty());
    assert!(
        accepted_replies
            .iter()
            .all(|reply| reply.body == accepted_replies[0].body)
    );
    let product = system.get("/v1/products/A").await.expect(200);
    assert_eq!(product["images"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn stale_if_match_changes_nothing() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    let etag = system.get("/v1/products/A").await.headers["etag"].clone();
    let build_upload = || {
        system
            .upload_request("A", "image/jpeg", jpeg())
            .header("if-match", etag.clone())
    };
    let uploaded_photo = send(build_upload()).await.expect(201);
    send(build_upload())
        .await
        .expect_problem(412, "VERSION_MISMATCH");
    assert_eq!(system.stored_files(), [id_of(&uploaded_photo)]);
    let path = format!("/v1/products/A/images/{}", id_of(&uploaded_photo));
    let delete_request = system
        .request(Method::DELETE, &path)
        .header("if-match", etag.clone());
    send(delete_request)
        .await
        .expect_problem(412, "VERSION_MISMATCH");
    let reorder_request = system
        .request(Method::PUT, "/v1/products/A/images")
        .header("if-match", etag.clone())
        .json(&json!({"ids": [uploaded_photo["id"]]}));
    send(reorder_request)
        .await
        .expect_problem(412, "VERSION_MISMATCH");
    assert_eq!(
        system
            .get_file(uploaded_photo["url"].as_str().unwrap(), &[])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn photos_are_changed_by_operators_and_read_without_a_credential() {
    let keys = "admin=the-admin-key;operator=the-operator-key;storefront@shop=the-storefront-key";
    let mut system = System::start_with(&[("API_KEYS", keys)]).await;
    system.api_key = Some("the-operator-key".to_owned());
    system.create_product_with_stock("A", &[]).await;
    let photo = system.add_photo("A").await;
    assert_eq!(
        system
            .get_file(photo["url"].as_str().unwrap(), &[])
            .await
            .status,
        200
    );
    let path = format!("/v1/products/A/images/{}", id_of(&photo));
    for (api_key, expected_status, expected_code) in [
        (Some("the-storefront-key"), 403, "FORBIDDEN"),
        (None, 401, "UNAUTHENTICATED"),
    ] {
        system.api_key = api_key.map(str::to_owned);
        system
            .upload("A", "image/jpeg", jpeg())
            .await
            .expect_problem(expected_status, expected_code);
        system
            .delete(&path)
            .await
            .expect_problem(expected_status, expected_code);
        let image_order = json!({"ids": [photo["id"]]});
        system
            .put("/v1/products/A/images", image_order)
            .await
            .expect_problem(expected_status, expected_code);
    }
    assert_eq!(system.stored_files(), [id_of(&photo)]);
}
