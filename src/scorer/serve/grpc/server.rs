//! Listens for gRPC.

use std::time::Duration;

use axum::middleware::from_fn_with_state;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

use super::connections::accepted;
use super::limits::limit;
use super::{Calls, oip, tensorflow};
use crate::config::scorer::HttpSettings;
use crate::scorer::protocols::grpc::generated::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use crate::scorer::protocols::grpc::generated::tensorflow::serving::model_service_server::ModelServiceServer;
use crate::scorer::protocols::grpc::generated::tensorflow::serving::prediction_service_server::PredictionServiceServer;

/// Calls under way on one connection.
const MAX_CALLS: u32 = 128;
/// A connection on which nothing happens is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
const MAX_METADATA_BYTES: u32 = 64 << 10;

/// Serves until `stop`, then finishes the calls under way. Limits are those of HTTP, in `settings`.
pub fn start(
    listener: TcpListener,
    calls: Calls,
    settings: &HttpSettings,
    stop: CancellationToken,
) -> JoinHandle<Result<(), String>> {
    // A message that is larger is refused before it is read.
    let most = calls.context.max_body_bytes;
    let context = calls.context.clone();
    let metrics = context.scorer.metrics().clone();
    let inference = GrpcInferenceServiceServer::new(oip::Inference(calls.clone())).max_decoding_message_size(most);
    let predictions =
        PredictionServiceServer::new(tensorflow::Predictions(calls.clone())).max_decoding_message_size(most);
    let models = ModelServiceServer::new(tensorflow::Models(calls)).max_decoding_message_size(most);
    let routes = Routes::new(inference).add_service(predictions).add_service(models);
    let limited = routes.into_axum_router().layer(from_fn_with_state(context, limit));
    let server = Server::builder()
        .concurrency_limit_per_connection(MAX_CALLS as usize)
        .max_concurrent_streams(MAX_CALLS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_max_header_list_size(MAX_METADATA_BYTES)
        .add_routes(Routes::from(limited));
    let incoming = Box::pin(accepted(listener, settings, metrics));
    tokio::spawn(async move {
        let stopped = async move { stop.cancelled().await };
        server.serve_with_incoming_shutdown(incoming, stopped).await.map_err(|error| error.to_string())
    })
}
