//! What every call is held to: the bytes of its messages count against `http.max_bodies_bytes` like those of bodies over
//! HTTP, a message that has begun must be whole within `http.body_timeout`, and the whole call has an end.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::{Code, Status};

use crate::scorer::metrics::Metrics;
use crate::scorer::protocols::grpc::SERVICES;
use crate::scorer::serve::http::Context;
use crate::scorer::serve::http::body::Reservation;

/// Bytes of a call that are in memory, counted in the budget of all bodies. Given back when the last of its holders goes,
/// or by `answered`.
#[derive(Clone)]
pub struct Held(Arc<Mutex<Reservation>>);

impl Held {
    /// A message of a stream is answered: its bytes are gone. At most a frame of the next one was read before.
    pub fn answered(&self) {
        self.reservation().clear();
    }

    fn reservation(&self) -> std::sync::MutexGuard<'_, Reservation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The step that every call goes through.
pub async fn limit(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let within = context.body_timeout.saturating_add(context.request_timeout);
    let held = Held(Arc::new(Mutex::new(context.bodies.empty())));
    let path = request.uri().path().trim_start_matches('/');
    let service = path.split_once('/').and_then(|(service, _)| SERVICES.into_iter().find(|known| *known == service));
    // A caller that goes away, or whose own time limit passes, drops this future.
    let mut answer = Counting { metrics: context.scorer.metrics(), service: service.unwrap_or("none"), code: None };
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(held.clone());
    let message_timeout = context.body_timeout;
    let body = Body::new(Counted { body, held: held.clone(), message_timeout, begun: None });
    let response = match tokio::time::timeout(within, next.run(Request::from_parts(parts, body))).await {
        Ok(response) => response,
        Err(_) => Status::deadline_exceeded(format!("the call took longer than {} ms", within.as_millis())).into_http(),
    };
    answer.code = Some(Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code()));
    response
}

/// Counts a call once, also one that is given up.
struct Counting<'a> {
    metrics: &'a Metrics,
    service: &'static str,
    code: Option<Code>,
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        let code = format!("{:?}", self.code.unwrap_or(Code::Cancelled));
        self.metrics.grpc_responses.with_label_values(&[self.service, &code]).inc();
    }
}

/// A call's body, as it comes.
struct Counted {
    body: Body,
    held: Held,
    message_timeout: Duration,
    /// Since a message has begun: ends when it took too long.
    begun: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.held.reservation().is_empty() {
            self.begun = None;
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                if bytes > 0 {
                    if !self.held.reservation().grow(bytes) {
                        return Poll::Ready(Some(Err(no_room())));
                    }
                    let timeout = self.message_timeout;
                    self.begun.get_or_insert_with(|| Box::pin(sleep(timeout)));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(Status::cancelled(format!("the message cannot be read: {error}")))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.begun.as_mut().map(|begun| begun.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(Some(Err(too_slow(self.message_timeout)))),
                Some(Poll::Pending) | None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn no_room() -> Status {
    Status::unavailable(
        "the messages of other requests fill the memory set aside for them (`http.max_bodies_bytes`); try again",
    )
}

fn too_slow(after: Duration) -> Status {
    Status::deadline_exceeded(format!("the message did not come within {} ms", after.as_millis()))
}

#[cfg(test)]
mod tests {
    use futures::stream::{iter, pending};
    use futures::{Stream, StreamExt};
    use http_body_util::BodyExt;
    use prometheus::IntGauge;

    use super::*;
    use crate::scorer::serve::http::body::Budget;

    fn counted(chunks: impl Stream<Item = Bytes> + Send + 'static, most: usize) -> (Counted, Held, IntGauge) {
        let gauge = IntGauge::new("bytes", "bytes").unwrap();
        let held = Held(Arc::new(Mutex::new(Budget::new(most, gauge.clone()).empty())));
        let body = Body::from_stream(chunks.map(Ok::<_, std::io::Error>));
        let message_timeout = Duration::from_millis(30);
        (Counted { body, held: held.clone(), message_timeout, begun: None }, held, gauge)
    }

    #[tokio::test]
    async fn a_message_that_does_not_end_is_cut_off_and_its_memory_given_back() {
        let (body, held, gauge) = counted(iter([Bytes::from_static(&[0; 10])]).chain(pending()), 100);
        let status = body.collect().await.unwrap_err();
        assert_eq!((status.code(), gauge.get()), (Code::DeadlineExceeded, 10), "{status}");
        drop(held);
        assert_eq!(gauge.get(), 0);
    }

    #[tokio::test]
    async fn memory_is_counted_as_it_comes_and_again_from_nothing_after_an_answer() {
        let (mut body, held, gauge) = counted(iter(vec![Bytes::from_static(&[0; 60]); 3]), 100);
        assert!(body.frame().await.unwrap().is_ok());
        held.answered();
        assert_eq!(gauge.get(), 0);
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(body.frame().await.unwrap().unwrap_err().code(), Code::Unavailable);
    }
}
