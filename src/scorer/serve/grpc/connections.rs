//! Connections of gRPC clients: counted, and no more of them than are allowed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tonic::transport::server::Connected;

use crate::config::scorer::HttpSettings;
use crate::scorer::metrics::Metrics;
use crate::scorer::serve::http::connection::Connection;

/// Connections as they are accepted. One beyond `http.max_connections` is closed at once; a client that takes no byte for
/// `http.write_timeout` is cut off.
pub fn accepted(
    listener: TcpListener,
    settings: &HttpSettings,
    metrics: Metrics,
) -> impl Stream<Item = io::Result<Counted>> + use<> {
    let (most, write_timeout) = (settings.max_connections, settings.write_timeout.to_std());
    let open = Arc::new(AtomicUsize::new(0));
    unfold((listener, open, metrics), move |(listener, open, metrics)| async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors: closing connections gives some back.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let slot = Slot::new(&open, &metrics);
            if slot.earlier >= most {
                metrics.grpc_connections_refused.inc();
                continue;
            }
            // Answers are written whole: nothing is to be waited for.
            let _ = stream.set_nodelay(true);
            let io = TokioIo::new(Connection::new(stream, write_timeout));
            return Some((Ok(Counted { io, _slot: slot }), (listener, open, metrics)));
        }
    })
}

/// A connection that is one of those that are counted.
pub struct Counted {
    io: TokioIo<Connection>,
    _slot: Slot,
}

struct Slot {
    open: Arc<AtomicUsize>,
    metrics: Metrics,
    /// How many were open before this one.
    earlier: usize,
}

impl Slot {
    fn new(open: &Arc<AtomicUsize>, metrics: &Metrics) -> Self {
        metrics.grpc_connections.inc();
        Self { earlier: open.fetch_add(1, Ordering::Relaxed), open: Arc::clone(open), metrics: metrics.clone() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.metrics.grpc_connections.dec();
    }
}

impl Connected for Counted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Poller<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Poller<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
}
