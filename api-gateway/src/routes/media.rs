//! `/media/{id}`: photos and their smaller copies, without a credential. An id can't be guessed, and its content
//! never changes, so every cache may keep it.

use std::ops::Range;

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use object_store::{GetOptions, GetRange, GetResult};
use shared::{
    etag::TagList,
    id::ImageId,
    outcome::{Code, Failure},
    product::ImageType,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    headers,
    input::Path,
    media::storage::{FULL_SIZE, Storage, VARIANT_WIDTHS},
    openapi::{PhotoBytes, PhotoWidth},
    problem::Problem,
    state::App,
};

const CACHE_FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");
/// Number of bytes by which a file's type is recognized.
const SIGNATURE_BYTES: u64 = 12;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(read_image))
        .routes(routes!(read_image_copy))
}

/// Reads a photo
///
/// Returns the file of a photo. It never changes; caches may keep it. Supports `If-None-Match` and `Range`.
#[utoipa::path(get, path = "/media/{id}", tag = "products", security(()),
    params(("id" = ImageId, Path), ("range" = Option<String>, Header)),
    responses(
        (status = 200, content((PhotoBytes = "image/jpeg"), (PhotoBytes = "image/png"), (PhotoBytes = "image/webp"))),
        (status = 206, content((PhotoBytes = "image/jpeg"), (PhotoBytes = "image/png"), (PhotoBytes = "image/webp"))),
        (status = 416, description = "The range is outside of the file")))]
async fn read_image(
    State(app): State<App>,
    photo_id: Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    serve(
        &app.media.storage,
        &photo_id.0,
        FULL_SIZE,
        &method,
        &headers,
    )
    .await
}

/// Reads a smaller copy of a photo
///
/// Returns the copy with a width of 320 or 1280 pixels. A photo that is not wider is returned as it is. Supports
/// `If-None-Match` and `Range`.
#[utoipa::path(get, path = "/media/{id}/{width}", tag = "products", security(()),
    params(("id" = ImageId, Path), ("width" = inline(PhotoWidth), Path), ("range" = Option<String>, Header)),
    responses(
        (status = 200, content((PhotoBytes = "image/jpeg"), (PhotoBytes = "image/png"), (PhotoBytes = "image/webp"))),
        (status = 206, content((PhotoBytes = "image/jpeg"), (PhotoBytes = "image/png"), (PhotoBytes = "image/webp"))),
        (status = 416, description = "The range is outside of the file")))]
async fn read_image_copy(
    State(app): State<App>,
    path: Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path((photo_id, width)) = &path;
    let mut variant_names = VARIANT_WIDTHS
        .into_iter()
        .map(|(_, variant_name)| variant_name);
    let Some(variant_name) = variant_names.find(|variant_name| variant_name == width) else {
        return Err(Failure::not_found("width of images", width).into());
    };
    serve(
        &app.media.storage,
        photo_id,
        variant_name,
        &method,
        &headers,
    )
    .await
}

/// A file that is about to be sent.
struct OpenFile {
    stored_file: GetResult,
    /// The stored variant: a photo that is narrower than the requested copy has none.
    variant: &'static str,
}

async fn serve(
    storage: &Storage,
    id_text: &str,
    variant: &'static str,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let not_found = || Problem::from(Failure::not_found("image", id_text));
    let photo_id: ImageId = id_text.parse().map_err(|_| not_found())?;
    let is_whole = *method == Method::GET && !headers.contains_key(header::RANGE);
    let etag_matches = |variant: &str| {
        let if_none_match = headers::list_value(headers, &header::IF_NONE_MATCH)
            .ok()
            .flatten();
        let tags: Option<TagList> = if_none_match.and_then(|list| list.parse().ok());
        tags.is_some_and(|tags| tags.has_weakly(&etag_text(photo_id, variant)))
    };
    let options = GetOptions {
        head: !is_whole || headers.contains_key(header::IF_NONE_MATCH),
        ..GetOptions::default()
    };
    let file = open_variant(storage, photo_id, variant, &options).await?;
    let OpenFile {
        stored_file,
        variant,
    } = file.ok_or_else(not_found)?;
    let etag = etag_text(photo_id, variant);
    let mut response_headers = HeaderMap::new();
    if let Ok(etag_value) = HeaderValue::from_str(&etag) {
        response_headers.insert(header::ETAG, etag_value);
    }
    response_headers.insert(header::CACHE_CONTROL, CACHE_FOR_EVER);
    if etag_matches(variant) {
        return Ok((StatusCode::NOT_MODIFIED, response_headers).into_response());
    }
    response_headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response_headers.insert(
        CROSS_ORIGIN_RESOURCE_POLICY,
        HeaderValue::from_static("cross-origin"),
    );
    let file_size = stored_file.meta.size;
    let range = match requested_range(method, headers, &etag, file_size) {
        Ok(range) => range,
        Err(problem) => {
            let mut response = problem.into_response();
            if let Ok(content_range) = HeaderValue::from_str(&format!("bytes */{file_size}")) {
                response
                    .headers_mut()
                    .insert(header::CONTENT_RANGE, content_range);
            }
            return Ok(response);
        }
    };
    let (content_type, body) = match (&range, *method == Method::HEAD) {
        (None, false) => {
            let stored_file = if options.head {
                open_range(storage, photo_id, variant, None)
                    .await?
                    .ok_or_else(not_found)?
            } else {
                stored_file
            };
            typed_body(stored_file).await?
        }
        (range, is_head) => {
            let signature_range = Some(0..SIGNATURE_BYTES.min(file_size));
            let signature_file = open_range(storage, photo_id, variant, signature_range).await?;
            let (content_type, _) = typed_body(signature_file.ok_or_else(not_found)?).await?;
            let body = match range {
                Some(range) if !is_head => {
                    let range_part =
                        open_range(storage, photo_id, variant, Some(range.clone())).await?;
                    stream_body(range_part.ok_or_else(not_found)?)
                }
                _ => Body::empty(),
            };
            (content_type, body)
        }
    };
    response_headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(content_type.as_str()),
    );
    let (status, length) = match range {
        Some(range) => {
            let content_range = format!("bytes {}-{}/{file_size}", range.start, range.end - 1);
            if let Ok(content_range) = HeaderValue::from_str(&content_range) {
                response_headers.insert(header::CONTENT_RANGE, content_range);
            }
            (StatusCode::PARTIAL_CONTENT, range.end - range.start)
        }
        None => (StatusCode::OK, file_size),
    };
    response_headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok((status, response_headers, body).into_response())
}

/// Opens the file of a variant, or the full size if there is no such variant.
async fn open_variant(
    storage: &Storage,
    photo_id: ImageId,
    variant: &'static str,
    options: &GetOptions,
) -> Result<Option<OpenFile>, Failure> {
    for variant in [variant, FULL_SIZE] {
        if let Some(stored_file) = storage
            .open_file(photo_id, variant, options.clone())
            .await?
        {
            return Ok(Some(OpenFile {
                stored_file,
                variant,
            }));
        }
    }
    Ok(None)
}

async fn open_range(
    storage: &Storage,
    photo_id: ImageId,
    variant: &str,
    range: Option<Range<u64>>,
) -> Result<Option<GetResult>, Failure> {
    let options = GetOptions {
        range: range.map(GetRange::Bounded),
        ..GetOptions::default()
    };
    storage.open_file(photo_id, variant, options).await
}

fn etag_text(photo_id: ImageId, variant: &str) -> String {
    if variant.is_empty() {
        format!("\"{photo_id}\"")
    } else {
        format!("\"{photo_id}-{variant}\"")
    }
}

/// The range of bytes that the client asks for; `None` for the whole file. Several ranges in one request are not
/// supported: the client gets the whole file (RFC 9110, section 14.2).
///
/// # Errors
/// 416 when the range is outside of the file.
fn requested_range(
    method: &Method,
    headers: &HeaderMap,
    etag: &str,
    file_size: u64,
) -> Result<Option<Range<u64>>, Problem> {
    if *method != Method::GET {
        return Ok(None);
    }
    let if_range = headers.get(header::IF_RANGE);
    if if_range.is_some_and(|value| value.as_bytes() != etag.as_bytes()) {
        return Ok(None);
    }
    let range_header = headers.get(header::RANGE);
    let Some(range) = range_header
        .and_then(|range| range.to_str().ok())
        .and_then(parse_range)
    else {
        return Ok(None);
    };
    let range = match range {
        (Some(first_byte), Some(last_byte)) => {
            first_byte..last_byte.saturating_add(1).min(file_size)
        }
        (Some(first_byte), None) => first_byte..file_size,
        (None, Some(length)) => file_size.saturating_sub(length)..file_size,
        (None, None) => return Ok(None),
    };
    if range.is_empty() {
        let message = format!("the Range is outside of the file, which has {file_size} bytes");
        return Err(Problem::with_status(
            Failure::new(Code::InvalidRequest, message),
            StatusCode::RANGE_NOT_SATISFIABLE,
        ));
    }
    Ok(Some(range))
}

/// The numbers of `bytes=first-last`, `bytes=first-` or `bytes=-length`; `None` for anything else.
fn parse_range(range_text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (first_text, last_text) = range_text.strip_prefix("bytes=")?.split_once('-')?;
    let parse_number = |number_text: &str| -> Option<Option<u64>> {
        if number_text.is_empty() {
            return Some(None);
        }
        let is_number = number_text.bytes().all(|byte| byte.is_ascii_digit());
        is_number
            .then(|| number_text.parse().ok())
            .flatten()
            .map(Some)
    };
    let (first_byte, last_byte) = (parse_number(first_text)?, parse_number(last_text)?);
    match (first_byte, last_byte) {
        (None, None) => None,
        (Some(first_byte), Some(last_byte)) if first_byte > last_byte => None,
        range => Some(range),
    }
}

/// The body of a file from its beginning, and its type.
async fn typed_body(stored_file: GetResult) -> Result<(ImageType, Body), Failure> {
    let mut stream = stored_file.into_stream();
    let mut first_chunk: Bytes = stream
        .next()
        .await
        .transpose()
        .map_err(unreadable)?
        .unwrap_or_default();
    while (first_chunk.len() as u64) < SIGNATURE_BYTES {
        let Some(chunk) = stream.next().await.transpose().map_err(unreadable)? else {
            break;
        };
        first_chunk = [first_chunk, chunk].concat().into();
    }
    let content_type = match &first_chunk[..] {
        [0xff, 0xd8, ..] => ImageType::Jpeg,
        [0x89, b'P', b'N', b'G', ..] => ImageType::Png,
        [b'R', b'I', b'F', b'F', ..] => ImageType::WebP,
        _ => {
            return Err(Failure::new(Code::Internal, "the stored file is damaged"));
        }
    };
    let stream = stream::iter([Ok(first_chunk)]).chain(stream);
    Ok((content_type, Body::from_stream(stream)))
}

fn stream_body(stored_file: GetResult) -> Body {
    Body::from_stream(stored_file.into_stream())
}

fn unreadable(error: object_store::Error) -> Failure {
    tracing::warn!("a stored photo can't be read: {error}");
    Failure::new(
        Code::Unavailable,
        "the storage of photos is not available; try again later",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_limited_to_the_file() {
        let range = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static(text))]);
            requested_range(&Method::GET, &headers, "\"x\"", 100)
        };
        for (text, expected_range) in [
            ("bytes=0-0", Some(0..1)),
            ("bytes=10-", Some(10..100)),
            ("bytes=-10", Some(90..100)),
            ("bytes=-1000", Some(0..100)),
            ("bytes=0-18446744073709551615", Some(0..100)),
            ("bytes=0-1,3-4", None),
            ("bytes=5-4", None),
            ("bytes=-", None),
            ("bytes=+1-2", None),
            ("items=0-1", None),
        ] {
            assert_eq!(range(text).unwrap(), expected_range, "{text}");
        }
        for unsatisfiable_range in ["bytes=100-", "bytes=100-200", "bytes=-0"] {
            assert!(range(unsatisfiable_range).is_err(), "{unsatisfiable_range}");
        }
    }
}
