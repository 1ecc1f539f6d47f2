//! Accepts connections and deals them to worker threads, each with a runtime of its own: a request is read, waited for
//! and answered on one thread, so that nothing but its score crosses threads.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioTimer;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::answer::{self, Answer, Refusal};
use super::connection::Connection;
use super::route::{Route, RouteError, route};
use super::{Context, oip, rows, torchserve};
use crate::config::scorer::HttpSettings;

/// Most workers unless the settings say another number: more of them only wait for the same scores.
const MOST_WORKERS: usize = 4;
/// Largest head of a request, bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 100;
/// Connections that wait for a worker to take them.
const MAX_DEALT: usize = 64;

/// A running server.
pub struct HttpServer {
    address: SocketAddr,
    workers: Vec<std::thread::JoinHandle<()>>,
}

impl HttpServer {
    /// Starts workers; connections are accepted on the runtime of the caller until `stop`.
    ///
    /// # Errors
    /// There are no threads to be had, or the listener has no address.
    pub fn start(
        listener: TcpListener,
        context: Arc<Context>,
        settings: &HttpSettings,
        stop: &CancellationToken,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if settings.workers == 0 { cores.min(MOST_WORKERS) } else { settings.workers };
        let mut senders = Vec::with_capacity(count);
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let (sender, receiver) = mpsc::channel(MAX_DEALT);
            let worker = Worker { context: Arc::clone(&context), settings: settings.clone(), stop: stop.clone() };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new().name(format!("http {index}"));
            workers.push(thread.spawn(move || runtime.block_on(worker.run(receiver)))?);
            senders.push(sender);
        }
        tokio::spawn(accept(listener, senders, context, settings.max_connections, stop.clone()));
        Ok(Self { address, workers })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until every request under way is answered, or given up; `stop` must have been cancelled.
    pub fn join(self) {
        for worker in self.workers {
            // A worker that panicked has said so.
            let _ = worker.join();
        }
    }
}

/// One of the connections that are counted.
struct Slot(Arc<Context>, Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
        self.0.scorer.metrics().http_connections.dec();
    }
}

async fn accept(
    listener: TcpListener,
    workers: Vec<mpsc::Sender<(std::net::TcpStream, Slot)>>,
    context: Arc<Context>,
    max_connections: usize,
    stop: CancellationToken,
) {
    let open = Arc::new(AtomicUsize::new(0));
    let mut turn = 0_usize;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // Not tied to this runtime any more: it would be woken for each request, only to wake the worker's.
        let stream = match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors: closing connections gives some back.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let metrics = context.scorer.metrics();
        if open.fetch_add(1, Ordering::Relaxed) >= max_connections {
            open.fetch_sub(1, Ordering::Relaxed);
            metrics.http_connections_refused.with_label_values(&["too_many"]).inc();
            continue;
        }
        metrics.http_connections.inc();
        let slot = Slot(Arc::clone(&context), Arc::clone(&open));
        turn = turn.wrapping_add(1);
        if let Some(worker) = workers.get(turn % workers.len().max(1)) {
            // It has ended: so will this loop.
            let _ = worker.send((stream, slot)).await;
        }
    }
}

struct Worker {
    context: Arc<Context>,
    settings: HttpSettings,
    stop: CancellationToken,
}

impl Worker {
    async fn run(self, mut connections: mpsc::Receiver<(std::net::TcpStream, Slot)>) {
        let tasks = tokio_util::task::TaskTracker::new();
        loop {
            let dealt = tokio::select! {
                () = self.stop.cancelled() => break,
                dealt = connections.recv() => dealt,
            };
            let Some((stream, slot)) = dealt else { break };
            let stream = match TcpStream::from_std(stream) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be served");
                    continue;
                }
            };
            let (context, stop) = (Arc::clone(&self.context), self.stop.clone());
            let settings = self.settings.clone();
            tasks.spawn(async move {
                serve(stream, context, &settings, stop).await;
                drop(slot);
            });
        }
        tasks.close();
        let drained = tokio::time::timeout(self.settings.drain_timeout.to_std(), tasks.wait()).await;
        if drained.is_err() {
            tracing::warn!(connections = tasks.len(), "requests are given up: they did not end in time");
        }
    }
}

async fn serve(stream: TcpStream, context: Arc<Context>, settings: &HttpSettings, stop: CancellationToken) {
    // Answers are written whole: nothing is to be waited for.
    let _ = stream.set_nodelay(true);
    let connection = Connection::new(stream, settings.write_timeout.to_std());
    let handler = Arc::clone(&context);
    let service = service_fn(move |request| {
        let context = Arc::clone(&handler);
        async move { Ok::<Answer, Infallible>(handle(&context, request).await) }
    });
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_timeout.to_std())
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .half_close(false);
    let mut serving = server.serve_connection(connection, service);
    let outcome = tokio::select! {
        outcome = &mut serving => outcome,
        () = stop.cancelled() => {
            std::pin::Pin::new(&mut serving).graceful_shutdown();
            (&mut serving).await
        }
    };
    if let Err(error) = outcome {
        let slow_head = error.is_timeout();
        if slow_head || std::error::Error::source(&error).is_some_and(timed_out) {
            context.scorer.metrics().http_connections_refused.with_label_values(&["too_slow"]).inc();
        }
        tracing::debug!(%error, "a connection ended");
        let left = serving.into_parts();
        // A client that has begun a request is told; an idle one would take this for the answer to its next.
        if slow_head && !left.read_buf.is_empty() {
            context.scorer.metrics().http_answered("none", StatusCode::REQUEST_TIMEOUT);
            left.io.close_with(&slow_head_answer(settings.head_timeout.to_std())).await;
        }
    }
}

/// Written by hand: hyper ends a connection whose head is late, and leaves it to others to say so.
fn slow_head_answer(timeout: Duration) -> Vec<u8> {
    let message =
        format!("the head of the request did not come within {} ms (`http.head_timeout`)", timeout.as_millis());
    let body = json!({"error": message}).to_string();
    format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn timed_out(source: &(dyn std::error::Error + 'static)) -> bool {
    source.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

async fn handle(context: &Context, request: Request<Incoming>) -> Answer {
    let uri = request.uri().clone();
    let (protocol, outcome) = match route(request.method(), uri.path()) {
        Ok(Route::Home) => ("none", Ok(home())),
        Ok(Route::Oip(route)) => ("oip", oip::answer(context, route, request).await),
        Ok(Route::Rows(route)) => ("rows", rows::answer(context, route, request).await),
        Ok(Route::TorchServe(route)) => ("torchserve", Ok(torchserve::answer(context, route, request).await)),
        Err(error) => ("none", Err(refused(error))),
    };
    let answer = outcome.unwrap_or_else(Refusal::into_answer);
    context.scorer.metrics().http_answered(protocol, answer.status());
    answer
}

fn home() -> Answer {
    answer::json(StatusCode::OK, &json!({"name": "driftline-scorer", "version": env!("CARGO_PKG_VERSION")}))
}

fn refused(error: RouteError) -> Refusal {
    match error {
        RouteError::NotFound => Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path"),
        RouteError::BadName(message) => Refusal::bad(message),
        RouteError::Method(right) => Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {right}")),
    }
}
