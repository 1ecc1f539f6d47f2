//! The body of a request, read whole within its limits.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use prometheus::IntGauge;

use super::Context;
use super::answer::Refusal;

/// Bytes of all bodies in memory. Counted as they come, not as they are announced: an announcement costs a client nothing.
#[derive(Clone)]
pub struct Budget {
    used: Arc<AtomicUsize>,
    most: usize,
    gauge: IntGauge,
}

impl Budget {
    pub fn new(most: usize, gauge: IntGauge) -> Self {
        Self { used: Arc::default(), most, gauge }
    }

    fn empty(&self) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0 }
    }
}

/// A body's part of the budget; given back when dropped.
pub struct Reservation {
    budget: Budget,
    bytes: usize,
}

impl Reservation {
    fn grow(&mut self, bytes: usize) -> bool {
        let before = self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        self.budget.gauge.add(i64::try_from(bytes).unwrap_or(i64::MAX));
        before.saturating_add(bytes) <= self.budget.most
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.gauge.sub(i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }
}

/// A body in memory, with what it takes of the budget: to be kept until its request is answered.
pub struct Read {
    pub bytes: Bytes,
    _reservation: Reservation,
}

/// After a refusal the rest of a body is read and thrown away for so long: a client that is still sending would otherwise
/// meet a connection that was reset, and not see why.
const LINGER: Duration = Duration::from_secs(2);

/// Reads a body whole.
///
/// # Errors
/// It is longer than allowed (413, before it is read where its length is announced), too slow (408), compressed (415),
/// or there is no room for it (503).
pub async fn read(headers: &HeaderMap, mut incoming: Incoming, context: &Context) -> Result<Read, Refusal> {
    let refused = |status, message| (Refusal::new(status, message), true);
    let too_large = || {
        let message = format!("the body is longer than {} bytes (`http.max_body_bytes`)", context.max_body_bytes);
        refused(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let announced = incoming.size_hint().lower();
    let outcome = if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding.as_bytes() != b"identity") {
        let message = "compressed bodies are not taken; send it without `content-encoding`";
        Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, message.to_string()))
    } else if announced > context.max_body_bytes as u64 {
        Err(too_large())
    } else {
        let reading = gather(&mut incoming, context);
        match tokio::time::timeout(context.body_timeout, reading).await {
            Ok(outcome) => outcome.map_err(|problem| match problem {
                Problem::TooLarge => too_large(),
                Problem::NoRoom => {
                    let mut refusal = refused(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "the bodies of other requests fill the memory set aside for them (`http.max_bodies_bytes`); \
                         try again"
                            .to_string(),
                    );
                    refusal.0.retry_after_seconds = Some(1);
                    refusal
                }
                Problem::Broken(message) => (Refusal::bad(message), false),
            }),
            Err(_) => {
                let message = format!("the body did not come within {} ms", context.body_timeout.as_millis());
                context.scorer.metrics().http_connections_refused.with_label_values(&["too_slow"]).inc();
                Err((Refusal::new(StatusCode::REQUEST_TIMEOUT, message), false))
            }
        }
    };
    outcome.map_err(|(refusal, drain)| {
        if drain {
            tokio::spawn(throw_away(incoming));
        }
        refusal
    })
}

enum Problem {
    TooLarge,
    NoRoom,
    Broken(String),
}

async fn gather(incoming: &mut Incoming, context: &Context) -> Result<Read, Problem> {
    let mut reservation = context.bodies.empty();
    // A small body comes as one frame, which needs no copy.
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let mut length = 0_usize;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *incoming).poll_frame(cx)).await {
        let frame = frame.map_err(|error| Problem::Broken(format!("the body cannot be read: {error}")))?;
        // Trailers say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length > context.max_body_bytes {
            return Err(Problem::TooLarge);
        }
        if !reservation.grow(data.len()) {
            return Err(Problem::NoRoom);
        }
        if first.is_empty() && more.is_empty() {
            first = data;
        } else {
            more.extend_from_slice(&std::mem::take(&mut first));
            more.extend_from_slice(&data);
        }
    }
    let bytes = if more.is_empty() { first } else { more.freeze() };
    Ok(Read { bytes, _reservation: reservation })
}

async fn throw_away(mut incoming: Incoming) {
    let all = async {
        while poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await.is_some_and(|frame| frame.is_ok()) {}
    };
    let _ = tokio::time::timeout(LINGER, all).await;
}
