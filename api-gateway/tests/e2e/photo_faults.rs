//! Uploads that are refused: each is answered with the reason, and leaves nothing in the storage.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    harness::{System, send, wait_until},
    photos::{contains, jpeg, photo},
};

/// A form with these parts: `Content-Type` and bytes.
fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (content_type, bytes) in parts {
        let part_head = format!(
            "--limit\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\nContent-Type: {content_type}\r\n\r\n"
        );
        body.extend_from_slice(part_head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--limit--\r\n");
    body
}

const FORM_TYPE: &str = "multipart/form-data; boundary=limit";

#[tokio::test]
async fn form_with_a_file_of_several_megabytes_is_accepted() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    // Noise, which can't be compressed.
    let mut random_state = 1_u32;
    let pixels = RgbImage::from_fn(1_000, 1_000, |_, _| {
        random_state = random_state
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let [_, red, green, blue] = random_state.to_le_bytes();
        Rgb([red, green, blue])
    });
    let mut png = Cursor::new(Vec::new());
    let image = DynamicImage::ImageRgb8(pixels);
    image.write_to(&mut png, ImageFormat::Png).unwrap();
    let png = png.into_inner();
    assert!(png.len() > 2_500_000, "{}", png.len());
    let body = form(&[("image/png", &png)]);
    let photo = system.upload("A", FORM_TYPE, body).await.expect(201);
    assert_eq!(photo["width"], 1_000);
}

/// A PNG file that claims this size.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut png = photo(8, 8, ImageFormat::Png);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    // The checksum of the header chunk.
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut checksum = u32::MAX;
    for byte in bytes {
        checksum ^= u32::from(*byte);
        for _ in 0..8 {
            checksum = (checksum >> 1) ^ (0xedb8_8320 & (checksum & 1).wrapping_neg());
        }
    }
    !checksum
}

/// A WebP file of 1 × 1 pixels that contains the beginning of a picture of 16,383 × 16,383.
fn webp_with_a_larger_picture() -> Vec<u8> {
    let canvas_chunk = b"VP8X\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let picture = b"VP8 \x0a\0\0\0\x10\0\0\x9d\x01\x2a\xff\x3f\xff\x3f";
    let content = [b"WEBP", &canvas_chunk[..], picture].concat();
    let size = u32::try_from(content.len()).unwrap();
    [b"RIFF", &size.to_le_bytes()[..], &content].concat()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of uploads")]
async fn refused_uploads_name_the_reason_and_leave_nothing() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    let (small_jpeg, small_png) = (jpeg(), photo(40, 30, ImageFormat::Png));
    let small_webp = photo(40, 30, ImageFormat::WebP);
    let first_half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let mut huge_jpeg = small_jpeg.clone();
    let frame_index = huge_jpeg
        .windows(2)
        .position(|marker| marker == [0xff, 0xc0])
        .unwrap();
    huge_jpeg[frame_index + 5..frame_index + 9].copy_from_slice(&[0x4e, 0x20, 0x4e, 0x20]);
    let mut damaged_png = small_png.clone();
    let middle_index = damaged_png.len() / 2;
    damaged_png[middle_index] ^= 0xff;
    let oversized_bytes = vec![0xff; 10 * 1024 * 1024 + 1];
    for (case_name, content_type, upload_body, status, expected_detail) in [
        ("empty", "image/jpeg", Vec::new(), 422, "empty"),
        (
            "text",
            "image/png",
            b"hello, world".to_vec(),
            422,
            "not an image",
        ),
        ("html", "text/html", b"<html>".to_vec(), 415, "text/html"),
        (
            "svg",
            "image/svg+xml",
            b"<svg/>".to_vec(),
            415,
            "image/svg+xml",
        ),
        (
            "gif",
            "image/png",
            b"GIF89a\x01\0\x01\0\0\0\0".to_vec(),
            415,
            "image/gif",
        ),
        (
            "jpeg as png",
            "image/png",
            small_jpeg.clone(),
            415,
            "the content is image/jpeg",
        ),
        (
            "png as webp",
            "image/webp",
            small_png.clone(),
            415,
            "the content is image/png",
        ),
        (
            "truncated jpeg",
            "image/jpeg",
            first_half(&small_jpeg),
            422,
            "incomplete",
        ),
        (
            "truncated png",
            "image/png",
            first_half(&small_png),
            422,
            "image",
        ),
        (
            "truncated webp",
            "image/webp",
            first_half(&small_webp),
            422,
            "image",
        ),
        (
            "damaged png",
            "image/png",
            damaged_png,
            422,
            "can't be decoded",
        ),
        (
            "20,000 × 20,000 png",
            "image/png",
            png_claiming(20_000, 20_000),
            422,
            "20000 × 20000 pixels",
        ),
        (
            "20,000 × 20,000 jpeg",
            "image/jpeg",
            huge_jpeg,
            422,
            "20000 × 20000 pixels",
        ),
        (
            "6,000 × 5,000 png",
            "image/png",
            png_claiming(6_000, 5_000),
            422,
            "25000000",
        ),
        (
            "larger picture in a webp",
            "image/webp",
            webp_with_a_larger_picture(),
            422,
            "16383 × 16383 pixels instead of 1 × 1",
        ),
        ("0 × 0 png", "image/png", png_claiming(0, 0), 422, "image"),
        (
            "too large",
            "image/jpeg",
            oversized_bytes.clone(),
            413,
            "10485760 bytes",
        ),
        ("form without a file", FORM_TYPE, form(&[]), 422, "no file"),
        (
            "form with two files",
            FORM_TYPE,
            form(&[("image/jpeg", &small_jpeg), ("image/jpeg", &small_jpeg)]),
            422,
            "one file",
        ),
        (
            "form with a wrong type",
            FORM_TYPE,
            form(&[("image/png", &small_jpeg)]),
            415,
            "image/jpeg",
        ),
        (
            "form with text",
            FORM_TYPE,
            form(&[("text/plain", b"hello")]),
            415,
            "text/plain",
        ),
        (
            "form with a large file",
            FORM_TYPE,
            form(&[("image/jpeg", &oversized_bytes)]),
            413,
            "10485760 bytes",
        ),
        (
            "form that ends early",
            FORM_TYPE,
            first_half(&form(&[("image/jpeg", &small_jpeg)])),
            422,
            "form",
        ),
        (
            "form without a boundary",
            "multipart/form-data",
            Vec::new(),
            422,
            "form",
        ),
    ] {
        let reply = system.upload("A", content_type, upload_body).await;
        assert_eq!(reply.status, status, "{case_name}: {}", reply.body);
        let problem = reply.expect_problem(status, "INVALID_REQUEST");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(expected_detail), "{case_name}: {detail}");
        assert_eq!(system.stored_files(), Vec::<String>::new(), "{case_name}");
    }
    let request_without_type = system.request(reqwest::Method::POST, "/v1/products/A/images");
    let reply = send(request_without_type.body(jpeg())).await;
    assert!(
        reply.expect(415)["detail"]
            .as_str()
            .unwrap()
            .contains("is missing")
    );
    for sku in ["B", "no%20sku"] {
        let reply = system.upload(sku, "image/jpeg", jpeg()).await;
        reply.expect_problem(404, "NOT_FOUND");
    }
    assert_eq!(system.stored_files(), Vec::<String>::new());
    let product = system.get("/v1/products/A").await.expect(200);
    assert_eq!(
        (&product["images"], &product["version"]),
        (&json!([]), &json!(1))
    );

    let upload_body = form(&[("image/png", &small_png)]);
    system.upload("A", FORM_TYPE, upload_body).await.expect(201);
}

#[tokio::test]
async fn decompression_bomb_is_refused_before_it_is_decoded() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    // 49 million pixels in some fifty kilobytes.
    let mut bomb = Cursor::new(Vec::new());
    let large_image = DynamicImage::ImageLuma8(GrayImage::from_pixel(7_000, 7_000, Luma([0])));
    large_image.write_to(&mut bomb, ImageFormat::Png).unwrap();
    let bomb = bomb.into_inner();
    assert!(bomb.len() < 1_000_000, "{}", bomb.len());
    let memory_before_mib = system.gateway.peak_memory_mib();
    for _ in 0..10 {
        let reply = system.upload("A", "image/png", bomb.clone()).await;
        let detail = reply.expect(422)["detail"].to_string();
        assert!(detail.contains("7000 × 7000 pixels"), "{detail}");
    }
    let memory_growth_mib = system.gateway.peak_memory_mib() - memory_before_mib;
    assert!(memory_growth_mib < 40, "{memory_growth_mib} MiB");
    assert_eq!(system.stored_files(), Vec::<String>::new());
}

/// About `size` zeros as a zlib stream (RFC 1950 and 1951) of less than a hundredth of that size.
fn compressed_zeros(size: u32) -> Vec<u8> {
    // Bits of the deflate stream, the first one first: the only block, a zero, its repetitions, the end.
    let repetitions = (size - 1) / 258;
    let bits = |text: &'static str| text.bytes().map(|bit| bit - b'0');
    let repeated_bits = (0..repetitions).flat_map(|_| bits("1100010100000"));
    let deflate_bits: Vec<u8> = bits("11000110000")
        .chain(repeated_bits)
        .chain(bits("0000000"))
        .collect();
    let mut compressed_bytes = vec![0x78, 0x01];
    compressed_bytes.extend(deflate_bits.chunks(8).map(|bits| {
        let bits = bits.iter().rev();
        bits.fold(0, |byte, bit| (byte << 1) | bit)
    }));
    let checksum = (((repetitions * 258 + 1) % 65_521) << 16) | 1;
    compressed_bytes.extend(checksum.to_be_bytes());
    compressed_bytes
}

#[tokio::test]
async fn compressed_color_profile_needs_bounded_memory() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    // A colour profile of 200 MiB: a chunk after the one with the header.
    let mut profile_chunk = b"iCCPname\0\0".to_vec();
    profile_chunk.extend(compressed_zeros(200 * 1024 * 1024));
    let chunk_length = u32::try_from(profile_chunk.len() - 4).unwrap();
    let checksum = crc32(&profile_chunk);
    let mut bomb = photo(8, 8, ImageFormat::Png);
    let profile_chunk = [
        &chunk_length.to_be_bytes()[..],
        &profile_chunk,
        &checksum.to_be_bytes(),
    ]
    .concat();
    bomb.splice(33..33, profile_chunk);
    assert!(bomb.len() < 2_000_000, "{}", bomb.len());
    let memory_before_mib = system.gateway.peak_memory_mib();
    for _ in 0..5 {
        let photo_reply = system.upload("A", "image/png", bomb.clone()).await;
        assert_eq!(photo_reply.expect(201)["width"], 8);
    }
    let memory_growth_mib = system.gateway.peak_memory_mib() - memory_before_mib;
    assert!(memory_growth_mib < 120, "{memory_growth_mib} MiB");
}

#[tokio::test]
async fn polyglot_is_stored_as_an_image_only() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    let script = b"<script>alert(document.domain)</script>";
    let mut jpeg_comment = vec![0xff, 0xfe];
    jpeg_comment.extend_from_slice(&u16::try_from(script.len() + 2).unwrap().to_be_bytes());
    jpeg_comment.extend_from_slice(script);
    let mut polyglot = jpeg();
    polyglot.splice(2..2, jpeg_comment);
    polyglot.extend_from_slice(script);
    let mut png = photo(40, 30, ImageFormat::Png);
    png.extend_from_slice(script);
    for (content_type, upload) in [("image/jpeg", polyglot), ("image/png", png)] {
        assert!(contains(&upload, script));
        let photo = system.upload("A", content_type, upload).await.expect(201);
        let file = system.get_file(photo["url"].as_str().unwrap(), &[]).await;
        assert_eq!(file.headers["content-type"], content_type);
        assert!(!contains(&file.bytes, b"script"));
    }
}

#[tokio::test]
async fn fifty_uploads_at_once_need_bounded_memory() {
    let system = System::start().await;
    for product_number in 0..5 {
        system
            .create_product_with_stock(&format!("P{product_number}"), &[])
            .await;
    }
    // Each needs 9 MB when it is decoded, and up to twice as much again for the copies: 1,350 MB all together.
    let photo_bytes = photo(2_000, 1_500, ImageFormat::Jpeg);
    let uploads = (0..50).map(|upload_number| {
        let sku = format!("P{}", upload_number % 5);
        let photo_bytes = photo_bytes.clone();
        let system = &system;
        async move {
            loop {
                let reply = system.upload(&sku, "image/jpeg", photo_bytes.clone()).await;
                if reply.status == 201 {
                    return reply.body["id"].as_str().unwrap().to_owned();
                }
                assert!(reply.headers.contains_key("retry-after"), "{}", reply.body);
                reply.expect_problem(503, "UNAVAILABLE");
            }
        }
    });
    let mut photo_ids = futures_util::future::join_all(uploads).await;
    let peak_mib = system.gateway.peak_memory_mib();
    assert!(peak_mib < 400, "{peak_mib} MiB");
    photo_ids.sort();
    photo_ids.dedup();
    assert_eq!(photo_ids.len(), 50);
    assert_eq!(system.stored_files().len(), 150);
    for product_number in 0..5 {
        let product_reply = system.get(&format!("/v1/products/P{product_number}")).await;
        assert_eq!(
            product_reply.expect(200)["images"]
                .as_array()
                .unwrap()
                .len(),
            10
        );
    }
}

#[tokio::test]
async fn upload_that_waits_too_long_for_slow_ones_is_refused_with_retry_after() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    // Six clients begin an upload and do not finish it: as many as the gateway receives at a time.
    let base_url = system.url("");
    let address = base_url.strip_prefix("http://").unwrap();
    let request_head = format!(
        "POST /v1/products/A/images HTTP/1.1\r\nHost: {address}\r\nContent-Type: image/jpeg\r\nContent-Length: 1000000\r\n\r\n"
    );
    let mut slow_clients = Vec::new();
    for _ in 0..6 {
        let mut slow_client = TcpStream::connect(address).await.unwrap();
        slow_client
            .write_all(request_head.as_bytes())
            .await
            .unwrap();
        slow_client.write_all(&jpeg()[..100]).await.unwrap();
        slow_clients.push(slow_client);
    }
    wait_until("the gateway to be busy", async || {
        let reply = system.upload("A", "image/jpeg", jpeg()).await;
        if reply.status != 503 {
            return false;
        }
        assert!(reply.headers.contains_key("retry-after"));
        let problem = reply.expect_problem(503, "UNAVAILABLE");
        problem["detail"].as_str().unwrap().contains("too many")
    })
    .await;
    drop(slow_clients);
    system.add_photo("A").await;
}

#[tokio::test]
async fn product_has_at_most_twenty_photos() {
    let system = System::start().await;
    system.create_product_with_stock("A", &[]).await;
    for _ in 0..20 {
        system.add_photo("A").await;
    }
    let reply = system.upload("A", "image/jpeg", jpeg()).await;
    reply.expect_problem(409, "INVALID_STATE");
    assert_eq!(system.stored_files().len(), 20);
}
