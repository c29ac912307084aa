//! Receives an uploaded photo: the bytes of an image, or a form with one file (`multipart/form-data`).

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, Multipart, Request},
    http::{HeaderMap, StatusCode, header},
};
use futures_util::StreamExt;
use shared::{
    outcome::{Code, Failure},
    product::ImageType,
};
use tokio::time;

use super::photo::Rejection;
use crate::{input::discard_body, problem::Problem};

/// Maximum size of an uploaded image in bytes.
pub(crate) const MAX_IMAGE_BYTES: usize = 10 * 1024 * 1024;
/// Size of the parts of a form around its file, in bytes.
const MAX_FORM_BYTES: usize = 16 * 1024;
/// Timeout for receiving the whole body.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);

/// An uploaded image.
pub(crate) struct Upload {
    /// The type that the client declared.
    pub(crate) declared_type: ImageType,
    pub(crate) bytes: Vec<u8>,
}

/// The kind of body, from `Content-Type`.
#[derive(Clone, Copy)]
enum BodyKind {
    Image(ImageType),
    Form,
}

/// Receives the body of `request`.
///
/// # Errors
/// 415 for other types, 413 when it is too large, 422 for a form without exactly one file.
pub(crate) async fn receive(request: Request) -> Result<Upload, Problem> {
    let kind = match body_kind(request.headers()) {
        Ok(kind) => kind,
        Err(problem) => {
            discard(request);
            return Err(problem);
        }
    };
    let max_bytes = match kind {
        BodyKind::Image(_) => MAX_IMAGE_BYTES,
        BodyKind::Form => MAX_IMAGE_BYTES + MAX_FORM_BYTES,
    };
    let (parts, body) = request.into_parts();
    let bytes = time::timeout(BODY_TIMEOUT, read_body(&parts.headers, body, max_bytes)).await;
    let bytes = bytes.unwrap_or_else(|_| {
        let message = format!("the body was not received within {BODY_TIMEOUT:?}");
        Err(Problem::with_status(
            Failure::new(Code::InvalidRequest, message),
            StatusCode::REQUEST_TIMEOUT,
        ))
    })?;
    match kind {
        BodyKind::Image(declared_type) => Ok(Upload {
            declared_type,
            bytes,
        }),
        BodyKind::Form => read_form(Request::from_parts(parts, Body::from(bytes))).await,
    }
}

/// Reads and drops the body of a refused request in the background.
pub(crate) fn discard(request: Request) {
    let (parts, body) = request.into_parts();
    discard_body(&parts.headers, body);
}

fn body_kind(headers: &HeaderMap) -> Result<BodyKind, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let essence = essence(content_type.unwrap_or_default());
    if essence.eq_ignore_ascii_case("multipart/form-data") {
        return Ok(BodyKind::Form);
    }
    image_type(essence, "Content-Type").map(BodyKind::Image)
}

/// The media type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn image_type(essence: &str, header_name: &str) -> Result<ImageType, Problem> {
    ImageType::from_media_type(essence).ok_or_else(|| {
        let given_type = if essence.is_empty() {
            "is missing".to_owned()
        } else {
            format!("is {essence:?}")
        };
        Rejection::Type(format!(
            "{header_name} {given_type}; it must be image/jpeg, image/png or image/webp, or multipart/form-data with one such file"
        ))
        .into()
    })
}

fn too_large() -> Problem {
    let message = format!("the image is larger than {MAX_IMAGE_BYTES} bytes");
    Problem::with_status(
        Failure::new(Code::InvalidRequest, message),
        StatusCode::PAYLOAD_TOO_LARGE,
    )
}

async fn read_body(headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Vec<u8>, Problem> {
    let content_length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<usize>().ok());
    if content_length.is_some_and(|length| length > max_bytes) {
        discard_body(headers, body);
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut body = body.into_data_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| {
            let message = format!("the body could not be read: {error}");
            Failure::new(Code::InvalidRequest, message)
        })?;
        if bytes.len() + chunk.len() > max_bytes {
            discard_body(headers, Body::from_stream(body));
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Reads a form, which must consist of one file.
async fn read_form(request: Request) -> Result<Upload, Problem> {
    let unreadable = |error: String| -> Problem {
        Rejection::Unreadable(format!("the form can't be read: {error}")).into()
    };
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| unreadable(error.body_text()))?;
    let mut upload = None;
    while let Some(field) = form
        .next_field()
        .await
        .map_err(|error| unreadable(error.body_text()))?
    {
        if upload.is_some() {
            return Err(Rejection::Unreadable(
                "the form has more than one part; send one file in each request".to_owned(),
            )
            .into());
        }
        let declared_type = image_type(
            essence(field.content_type().unwrap_or_default()),
            "the Content-Type of the file",
        )?;
        let bytes = field.bytes().await;
        let bytes = bytes.map_err(|error| unreadable(error.body_text()))?;
        if bytes.len() > MAX_IMAGE_BYTES {
            return Err(too_large());
        }
        upload = Some(Upload {
            declared_type,
            bytes: bytes.into(),
        });
    }
    upload.ok_or_else(|| Rejection::Unreadable("the form has no file".to_owned()).into())
}
