//! An HTTP server that records requests and gives configured responses.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;

/// A recorded request.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedRequest {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A configured response.
#[derive(Debug, Clone)]
pub(crate) enum CannedResponse {
    Status(u16),
    /// Responds 200 with this JSON body.
    Json(String),
    Redirect(String),
    /// Responds 200 with a body that never ends.
    Endless,
    Late(Duration),
    /// Responds 200 and never sends the body.
    Stalled,
    /// Responds with this status and this `Retry-After`.
    RetryAfter(u16, String),
}

#[derive(Clone)]
pub(crate) struct Receiver(Arc<ReceiverState>);

struct ReceiverState {
    address: String,
    received_requests: Mutex<Vec<ReceivedRequest>>,
    /// Responses to the next requests, one each; the last one is repeated.
    canned_responses: Mutex<VecDeque<CannedResponse>>,
}

impl Receiver {
    /// Starts a receiver that accepts everything.
    pub(crate) async fn start() -> Self {
        Self::with_responses(vec![CannedResponse::Status(200)]).await
    }

    pub(crate) async fn with_responses(canned_responses: Vec<CannedResponse>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self(Arc::new(ReceiverState {
            address: listener.local_addr().unwrap().to_string(),
            received_requests: Mutex::default(),
            canned_responses: Mutex::new(canned_responses.into()),
        }));
        let router = Router::new().fallback(handle).with_state(receiver.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        receiver
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0.address)
    }

    pub(crate) fn port(&self) -> &str {
        self.0.address.split(':').next_back().unwrap()
    }

    /// Changes the response to later requests.
    pub(crate) fn set_response(&self, canned_response: CannedResponse) {
        *self.0.canned_responses.lock().unwrap() = [canned_response].into();
    }

    pub(crate) fn received(&self) -> Vec<ReceivedRequest> {
        self.0.received_requests.lock().unwrap().clone()
    }
}

async fn handle(State(receiver): State<Receiver>, request: Request) -> Response {
    let (request_head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1024 * 1024).await.unwrap();
    receiver
        .0
        .received_requests
        .lock()
        .unwrap()
        .push(ReceivedRequest {
            headers: request_head.headers,
            body,
        });
    let canned_response = {
        let mut canned_responses = receiver.0.canned_responses.lock().unwrap();
        match canned_responses.len() {
            1 => canned_responses[0].clone(),
            _ => canned_responses.pop_front().unwrap(),
        }
    };
    match canned_response {
        CannedResponse::Status(status_code) => {
            StatusCode::from_u16(status_code).unwrap().into_response()
        }
        CannedResponse::Json(json_text) => {
            ([(header::CONTENT_TYPE, "application/json")], json_text).into_response()
        }
        CannedResponse::Redirect(target_url) => {
            (StatusCode::FOUND, [(header::LOCATION, target_url)]).into_response()
        }
        CannedResponse::Endless => {
            let endless_body = futures_util::stream::repeat_with(|| {
                Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 1024]))
            });
            axum::body::Body::from_stream(endless_body).into_response()
        }
        CannedResponse::Stalled => {
            let stalled_body =
                futures_util::stream::pending::<Result<Bytes, std::convert::Infallible>>();
            axum::body::Body::from_stream(stalled_body).into_response()
        }
        CannedResponse::RetryAfter(status_code, retry_after) => {
            let status = StatusCode::from_u16(status_code).unwrap();
            (status, [(header::RETRY_AFTER, retry_after)]).into_response()
        }
        CannedResponse::Late(delay) => {
            tokio::time::sleep(delay).await;
            StatusCode::OK.into_response()
        }
    }
}
