//! What an HTTP server costs that scores nothing: hyper on threads as the scorer has them, which reads a request whole and
//! gives an answer of fixed text. Nothing that speaks HTTP by hyper on this machine is quicker.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::mpsc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

const ANSWER: &str = "{\"model_name\":\"mlp\",\"model_version\":\"1\",\"id\":\"0123456789abcdef-ffffff\",\"outputs\":\
                      [{\"name\":\"score\",\"datatype\":\"FP32\",\"shape\":[1,1],\"data\":[0.48712873]}]}";

/// Listens on loopback at `port` and never returns.
pub fn serve(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let senders: Vec<_> = (0..threads).map(|_| worker()).collect();
    for (index, stream) in listener.incoming().enumerate() {
        senders[index % threads].send(stream.unwrap()).unwrap();
    }
}

fn worker() -> tokio::sync::mpsc::UnboundedSender<std::net::TcpStream> {
    let (ready, started) = mpsc::channel();
    std::thread::spawn(move || {
        let (sender, mut streams) = tokio::sync::mpsc::unbounded_channel::<std::net::TcpStream>();
        ready.send(sender).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            while let Some(stream) = streams.recv().await {
                stream.set_nonblocking(true).unwrap();
                stream.set_nodelay(true).unwrap();
                let stream = TokioIo::new(tokio::net::TcpStream::from_std(stream).unwrap());
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, service_fn(answer)));
            }
        });
    });
    started.recv().unwrap()
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // A client that goes away in the middle of its request is no matter here.
    let _ = request.into_body().collect().await;
    Ok(Response::new(Full::new(Bytes::from_static(ANSWER.as_bytes()))))
}
