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
pub(crate) struct Received {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A configured response.
#[derive(Debug, Clone)]
pub(crate) enum Manner {
    Status(u16),
    /// 200 with this JSON body.
    Json(String),
    Redirect(String),
    /// A body that never ends.
    Endless,
    Late(Duration),
    /// Says 200, and its body never comes.
    Stalled,
    /// With this status and this `Retry-After`.
    RetryAfter(u16, String),
}

#[derive(Clone)]
pub(crate) struct Receiver(Arc<Inner>);

struct Inner {
    address: String,
    received: Mutex<Vec<Received>>,
    /// Responses to the next requests, one each; the last one is repeated.
    manners: Mutex<VecDeque<Manner>>,
}

impl Receiver {
    /// Starts a receiver that accepts everything.
    pub(crate) async fn start() -> Self {
        Self::with(vec![Manner::Status(200)]).await
    }

    pub(crate) async fn with(manners: Vec<Manner>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self(Arc::new(Inner {
            address: listener.local_addr().unwrap().to_string(),
            received: Mutex::default(),
            manners: Mutex::new(manners.into()),
        }));
        let router = Router::new().fallback(take).with_state(receiver.clone());
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
    pub(crate) fn answer(&self, manner: Manner) {
        *self.0.manners.lock().unwrap() = [manner].into();
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.0.received.lock().unwrap().clone()
    }
}

async fn take(State(receiver): State<Receiver>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1024 * 1024).await.unwrap();
    receiver.0.received.lock().unwrap().push(Received {
        headers: parts.headers,
        body,
    });
    let manner = {
        let mut manners = receiver.0.manners.lock().unwrap();
        match manners.len() {
            1 => manners[0].clone(),
            _ => manners.pop_front().unwrap(),
        }
    };
    match manner {
        Manner::Status(code) => StatusCode::from_u16(code).unwrap().into_response(),
        Manner::Json(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Manner::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Manner::Endless => {
            let endless = futures_util::stream::repeat_with(|| {
                Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 1024]))
            });
            axum::body::Body::from_stream(endless).into_response()
        }
        Manner::Stalled => {
            let stalled =
                futures_util::stream::pending::<Result<Bytes, std::convert::Infallible>>();
            axum::body::Body::from_stream(stalled).into_response()
        }
        Manner::RetryAfter(code, when) => {
            let status = StatusCode::from_u16(code).unwrap();
            (status, [(header::RETRY_AFTER, when)]).into_response()
        }
        Manner::Late(wait) => {
            tokio::time::sleep(wait).await;
            StatusCode::OK.into_response()
        }
    }
}
