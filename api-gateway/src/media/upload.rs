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
/// Maximum size of the parts of a form around its file, in bytes.
const MAX_FORM_OVERHEAD_BYTES: usize = 16 * 1024;
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
    let body_kind = match body_kind(request.headers()) {
        Ok(body_kind) => body_kind,
        Err(problem) => {
            discard(request);
            return Err(problem);
        }
    };
    let max_bytes = match body_kind {
        BodyKind::Image(_) => MAX_IMAGE_BYTES,
        BodyKind::Form => MAX_IMAGE_BYTES + MAX_FORM_OVERHEAD_BYTES,
    };
    let (head, body) = request.into_parts();
    let body_bytes = time::timeout(BODY_TIMEOUT, read_body(&head.headers, body, max_bytes)).await;
    let body_bytes = body_bytes.unwrap_or_else(|_| {
        let message = format!("the body was not received within {BODY_TIMEOUT:?}");
        Err(Problem::with_status(
            Failure::new(Code::InvalidRequest, message),
            StatusCode::REQUEST_TIMEOUT,
        ))
    })?;
    match body_kind {
        BodyKind::Image(declared_type) => Ok(Upload {
            declared_type,
            bytes: body_bytes,
        }),
        BodyKind::Form => read_form(Request::from_parts(head, Body::from(body_bytes))).await,
    }
}

/// Reads and drops the body of a refused request in the background.
pub(crate) fn discard(request: Request) {
    let (head, body) = request.into_parts();
    discard_body(&head.headers, body);
}

fn body_kind(headers: &HeaderMap) -> Result<BodyKind, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let media_type = media_type(content_type.unwrap_or_default());
    if media_type.eq_ignore_ascii_case("multipart/form-data") {
        return Ok(BodyKind::Form);
    }
    image_type(media_type, "Content-Type").map(BodyKind::Image)
}

/// The media type without its parameters.
fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn image_type(media_type: &str, header_name: &str) -> Result<ImageType, Problem> {
    ImageType::from_media_type(media_type).ok_or_else(|| {
        let given_type = if media_type.is_empty() {
            "is missing".to_owned()
        } else {
            format!("is {media_type:?}")
        };
        Rejection::WrongType(format!(
            "{header_name} {given_type}; it must be image/jpeg, image/png or image/webp, or multipart/form-data with one such file"
        ))
        .into()
    })
}

fn too_large_problem() -> Problem {
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
        return Err(too_large_problem());
    }
    let mut bytes = Vec::new();
    let mut body_stream = body.into_data_stream();
    while let Some(chunk) = body_stream.next().await {
        let chunk = chunk.map_err(|error| {
            let message = format!("the body could not be read: {error}");
            Failure::new(Code::InvalidRequest, message)
        })?;
        if bytes.len() + chunk.len() > max_bytes {
            discard_body(headers, Body::from_stream(body_stream));
            return Err(too_large_problem());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Reads a form, which must consist of one file.
async fn read_form(request: Request) -> Result<Upload, Problem> {
    let unreadable_form = |error_text: String| -> Problem {
        Rejection::Unreadable(format!("the form can't be read: {error_text}")).into()
    };
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| unreadable_form(error.body_text()))?;
    let mut upload = None;
    while let Some(field) = form
        .next_field()
        .await
        .map_err(|error| unreadable_form(error.body_text()))?
    {
        if upload.is_some() {
            return Err(Rejection::Unreadable(
                "the form has more than one part; send one file in each request".to_owned(),
            )
            .into());
        }
        let declared_type = image_type(
            media_type(field.content_type().unwrap_or_default()),
            "the Content-Type of the file",
        )?;
        let field_bytes = field.bytes().await;
        let field_bytes = field_bytes.map_err(|error| unreadable_form(error.body_text()))?;
        if field_bytes.len() > MAX_IMAGE_BYTES {
            return Err(too_large_problem());
        }
        upload = Some(Upload {
            declared_type,
            bytes: field_bytes.into(),
        });
    }
    upload.ok_or_else(|| Rejection::Unreadable("the form has no file".to_owned()).into())
}
