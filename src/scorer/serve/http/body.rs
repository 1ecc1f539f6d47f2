//! The body of a request, read whole within its limits, and decompressed within the same.

use std::future::poll_fn;
use std::io::Read as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
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

    pub fn empty(&self) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0 }
    }
}

/// A body's part of the budget; given back when dropped.
pub struct Reservation {
    budget: Budget,
    bytes: usize,
}

impl Reservation {
    /// Whether there was room; what did not fit is counted too, until this is given back.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let before = self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        self.budget.gauge.add(i64::try_from(bytes).unwrap_or(i64::MAX));
        before.saturating_add(bytes) <= self.budget.most
    }

    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Gives everything back.
    pub fn clear(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.gauge.sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.clear();
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

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Gzip,
    /// In a zlib frame, as RFC 9110 has it.
    Deflate,
}

impl Encoding {
    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }
}

/// # Errors
/// It is compressed in another way: 415.
fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, String> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let (first, second) = (values.next(), values.next());
    match (first.map(|value| value.as_bytes().trim_ascii().to_ascii_lowercase()).as_deref(), second) {
        (None | Some(b"" | b"identity"), None) => Ok(None),
        (Some(b"gzip" | b"x-gzip"), None) => Ok(Some(Encoding::Gzip)),
        (Some(b"deflate"), None) => Ok(Some(Encoding::Deflate)),
        _ => Err("the body's `content-encoding` is not taken; send one of gzip and deflate, or none".into()),
    }
}

/// Reads a body whole.
///
/// # Errors
/// It is longer than allowed (413, before it is read where its length is announced), too slow (408), compressed in a way
/// that is not known (415) or not as it says (400), or there is no room for it (503).
pub async fn read(headers: &HeaderMap, mut incoming: Incoming, context: &Context) -> Result<Read, Refusal> {
    let refused = |status, message| (Refusal::new(status, message), true);
    let too_large = || {
        let message = format!(
            "the body is longer than {} bytes, decompressed if it is compressed (`http.max_body_bytes`)",
            context.max_body_bytes
        );
        refused(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let announced = incoming.size_hint().lower();
    let encoding = encoding(headers);
    let outcome = if let Err(message) = encoding {
        Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
    } else if announced > context.max_body_bytes as u64 {
        Err(too_large())
    } else {
        let reading = async {
            let read = gather(&mut incoming, context).await?;
            match encoding {
                Ok(Some(encoding)) => decompress(encoding, read, context).await,
                _ => Ok(read),
            }
        };
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

/// Bytes decompressed before other requests of the same thread have their turn.
const PIECE: usize = 64 << 10;

/// The body as it was before it was compressed. It grows piece by piece against the same limits as one that comes plain:
/// a small body may be of any size in truth.
async fn decompress(encoding: Encoding, compressed: Read, context: &Context) -> Result<Read, Problem> {
    let bytes = compressed.bytes.clone();
    let mut decoder: Box<dyn std::io::Read + Send> = match encoding {
        Encoding::Gzip => Box::new(MultiGzDecoder::new(bytes.reader())),
        Encoding::Deflate => Box::new(ZlibDecoder::new(bytes.reader())),
    };
    let mut reservation = context.bodies.empty();
    let mut whole = BytesMut::new();
    let mut piece = vec![0; PIECE];
    loop {
        let read = decoder.read(&mut piece).map_err(|error| {
            Problem::Broken(format!("the body cannot be decompressed as {}: {error}", encoding.name()))
        })?;
        if read == 0 {
            break;
        }
        if whole.len() + read > context.max_body_bytes {
            return Err(Problem::TooLarge);
        }
        if !reservation.grow(read) {
            return Err(Problem::NoRoom);
        }
        whole.extend_from_slice(piece.get(..read).unwrap_or_default());
        tokio::task::yield_now().await;
    }
    Ok(Read { bytes: whole.freeze(), _reservation: reservation })
}

async fn throw_away(mut incoming: Incoming) {
    let all = async {
        while poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await.is_some_and(|frame| frame.is_ok()) {}
    };
    let _ = tokio::time::timeout(LINGER, all).await;
}
