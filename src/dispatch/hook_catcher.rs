//! A webhook receiver that keeps what it is given: the demo's, and the tests'. Loopback only.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::rules::episode::Notification;

/// Requests kept; later ones are answered and forgotten.
const MAX_KEPT: usize = 10_000;

/// One webhook as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct CaughtHook {
    /// Header `webhook-id`: the notification's id, by which a second copy is known.
    pub id: String,
    /// Header `webhook-timestamp`, epoch seconds.
    pub timestamp_s: i64,
    /// Header `webhook-signature`, empty if the receiver has no secret.
    pub signature: String,
    pub body: Vec<u8>,
    pub received_at_ms: i64,
    /// `data.notification` of the body.
    pub notification: Notification,
}

#[derive(Default)]
struct Shared {
    caught: Mutex<Vec<CaughtHook>>,
    arrived: Notify,
}

impl Shared {
    fn caught(&self) -> MutexGuard<'_, Vec<CaughtHook>> {
        self.caught.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until it is dropped.
pub struct HookCatcher {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl HookCatcher {
    /// Listens on 127.0.0.1; port 0 takes a free one.
    pub async fn start(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let router = Router::new().route("/{*path}", post(take)).route("/", post(take)).with_state(shared.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the webhook catcher has stopped");
            }
        });
        Ok(Self { address, shared, task })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For a receiver's `url`; it needs `allow_private: true`.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Everything caught so far, in order of arrival, repeated copies included.
    pub fn hooks(&self) -> Vec<CaughtHook> {
        self.shared.caught().clone()
    }

    /// Waits until `count` webhooks have been caught; whatever there is after `timeout`.
    pub async fn wait_for(&self, count: usize, timeout: Duration) -> Vec<CaughtHook> {
        let enough = async {
            loop {
                let arrived = self.shared.arrived.notified();
                if self.shared.caught().len() >= count {
                    return;
                }
                arrived.await;
            }
        };
        let _ = tokio::time::timeout(timeout, enough).await;
        self.hooks()
    }
}

impl Drop for HookCatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Result<StatusCode, StatusCode> {
    let received_at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_string();
    let payload: Value = serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let notification = serde_json::from_value(payload["data"]["notification"].clone())
        .map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
    let hook = CaughtHook {
        id: text("webhook-id"),
        timestamp_s: text("webhook-timestamp").parse().map_err(|_| StatusCode::BAD_REQUEST)?,
        signature: text("webhook-signature"),
        body: body.to_vec(),
        received_at_ms,
        notification,
    };
    let mut caught = shared.caught();
    if caught.len() < MAX_KEPT {
        caught.push(hook);
    }
    drop(caught);
    shared.arrived.notify_waiters();
    Ok(StatusCode::NO_CONTENT)
}
