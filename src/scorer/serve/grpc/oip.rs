//! The Open Inference Protocol's `GRPCInferenceService`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status, Streaming};

use super::limits::Held;
use super::{Calls, deadline, overrides};
use crate::config::service::Role;
use crate::scorer::protocols::grpc::generated::inference::grpc_inference_service_server::GrpcInferenceService;
use crate::scorer::protocols::grpc::generated::inference::repository_index_response::ModelIndex;
use crate::scorer::protocols::grpc::generated::inference::{
    InferStatistics, ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ModelStatistics,
    ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse, RepositoryIndexRequest,
    RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelLoadResponse, RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest,
    ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse, StatisticDuration,
};
use crate::scorer::protocols::grpc::oip as messages;
use crate::scorer::protocols::shown;
use crate::scorer::score::{ScoreError, ScoreRequest, ScoreResponse};
use crate::scorer::serve::table::{ServedModel, ServedVersion};

pub struct Inference(pub Calls);

type Answer<T> = Result<Response<T>, Status>;

impl Inference {
    fn model(&self, name: &str) -> Result<Arc<ServedModel>, ScoreError> {
        self.0.context.scorer.model(name)
    }

    /// Who is asking, by the name of their token. That the admin server is on loopback says nothing of this listener: it
    /// asks for a token always.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` or `PERMISSION_DENIED`: the call has no token of the admin API that may do this.
    fn authorise(&self, metadata: &MetadataMap) -> Result<String, Status> {
        if !self.0.access.asks_for_tokens() {
            return Err(Status::permission_denied(
                "the repository is behind `admin.tokens`, and none is configured; use the admin API, or configure one",
            ));
        }
        let caller = self.0.access.caller(&axum::http::Method::POST, metadata.as_ref());
        let caller = caller.map_err(|_| {
            Status::unauthenticated("send a token of `admin.tokens`: metadata `authorization`, `Bearer TOKEN`")
        })?;
        caller
            .must(Role::Operate)
            .map_err(|_| Status::permission_denied("this token may read, and not change anything"))?;
        Ok(caller.by(None))
    }
}

fn version<'a>(model: &'a ServedModel, version: &str) -> Result<&'a Arc<ServedVersion>, ScoreError> {
    if version.is_empty() { model.production() } else { model.version(version) }
}

async fn infer(
    calls: &Calls,
    metadata: &MetadataMap,
    message: ModelInferRequest,
) -> Result<(ScoreResponse, bool), Status> {
    let overrides = overrides(metadata)?;
    let infer = messages::decode(message, &calls.context.limits)?;
    let asked = infer.timeout_us.map(Duration::from_micros).or(overrides.timeout);
    let request = ScoreRequest {
        model: infer.model,
        version: infer.version.or(overrides.version),
        arm: overrides.arm,
        id: infer.id.or(overrides.id),
        entity: infer.entity.or(overrides.entity),
        inputs: infer.inputs,
        outputs: infer.outputs,
        priority: infer.priority.or(overrides.priority).unwrap_or_default(),
        deadline: deadline(&calls.context, metadata, asked),
    };
    Ok((calls.context.scorer.score(request).await?, infer.raw))
}

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        Ok(Response::new(ServerReadyResponse { ready: self.0.context.scorer.table().ready().is_ok() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        let asked = request.into_inner();
        let model = self.model(&asked.name)?;
        let ready = version(&model, &asked.version).is_ok_and(|version| version.backend.ready());
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(&self, _: Request<ServerMetadataRequest>) -> Answer<ServerMetadataResponse> {
        Ok(Response::new(ServerMetadataResponse {
            name: "driftline-scorer".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            extensions: messages::EXTENSIONS.map(str::to_string).into(),
        }))
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Answer<ModelMetadataResponse> {
        let asked = request.into_inner();
        let model = self.model(&asked.name)?;
        let version = version(&model, &asked.version)?;
        let signature = version.backend.signature();
        let signature = signature.as_deref();
        Ok(Response::new(ModelMetadataResponse {
            name: model.name.clone(),
            versions: match asked.version.is_empty() {
                true => model.versions.keys().cloned().collect(),
                false => vec![version.version.clone()],
            },
            platform: version.backend.engine().into(),
            inputs: signature.map(|signature| messages::metadata(&signature.inputs)).unwrap_or_default(),
            outputs: signature.map(|signature| messages::metadata(&signature.outputs)).unwrap_or_default(),
        }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let (metadata, _, message) = request.into_parts();
        let (scored, raw) = infer(&self.0, &metadata, message).await?;
        let (version, arm) = (scored.version.clone(), scored.arm.name());
        let mut response = Response::new(messages::encode(scored, raw).map_err(Status::invalid_argument)?);
        let metadata = response.metadata_mut();
        if let Ok(version) = MetadataValue::try_from(version) {
            metadata.insert("driftline-version", version);
        }
        metadata.insert("driftline-arm", MetadataValue::from_static(arm));
        Ok(response)
    }

    type ModelStreamInferStream = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    /// One answer for each request, in their order; a request that fails does not end the stream.
    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        let (metadata, extensions, messages) = request.into_parts();
        let calls = self.0.clone();
        let held = extensions.get::<Held>().cloned();
        let answers = messages.then(move |message| {
            let (calls, metadata, held) = (calls.clone(), metadata.clone(), held.clone());
            async move {
                let scored = infer(&calls, &metadata, message?).await;
                let answer =
                    scored.and_then(|(scored, raw)| messages::encode(scored, raw).map_err(Status::invalid_argument));
                if let Some(held) = held {
                    held.answered();
                }
                Ok(match answer {
                    Ok(response) => {
                        ModelStreamInferResponse { error_message: String::new(), infer_response: Some(response) }
                    }
                    Err(status) => {
                        ModelStreamInferResponse { error_message: status.message().to_string(), infer_response: None }
                    }
                })
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn model_config(&self, request: Request<ModelConfigRequest>) -> Answer<ModelConfigResponse> {
        let asked = request.into_inner();
        let model = self.model(&asked.name)?;
        let backend = &version(&model, &asked.version)?.backend;
        let rows = model.settings.batching.max_batch_rows;
        let config = messages::config(&model.name, backend.engine(), backend.signature().as_deref(), rows);
        Ok(Response::new(ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(&self, request: Request<ModelStatisticsRequest>) -> Answer<ModelStatisticsResponse> {
        let asked = request.into_inner();
        let models = match asked.name.is_empty() {
            true => self.0.context.scorer.table().models.values().cloned().collect(),
            false => vec![self.model(&asked.name)?],
        };
        if let ([model], false) = (models.as_slice(), asked.version.is_empty()) {
            model.version(&asked.version)?;
        }
        let mut model_stats = Vec::new();
        for model in &models {
            let wanted = |version: &&Arc<ServedVersion>| asked.version.is_empty() || version.version == asked.version;
            for version in model.versions.values().filter(wanted) {
                let totals = version.totals();
                let success = StatisticDuration { count: totals.answered, ns: totals.answered_ns };
                let fail = StatisticDuration { count: totals.failed, ns: 0 };
                model_stats.push(ModelStatistics {
                    name: model.name.clone(),
                    version: version.version.clone(),
                    inference_count: totals.rows,
                    execution_count: totals.answered,
                    inference_stats: Some(InferStatistics {
                        success: Some(success),
                        fail: Some(fail),
                        ..InferStatistics::default()
                    }),
                    ..ModelStatistics::default()
                });
            }
        }
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(&self, request: Request<RepositoryIndexRequest>) -> Answer<RepositoryIndexResponse> {
        self.authorise(request.metadata())?;
        let mut models = Vec::new();
        let table = self.0.context.scorer.table();
        for model in table.models.values() {
            for version in model.versions.values() {
                let (state, reason) = match version.backend.ready() {
                    true => ("READY", ""),
                    false => ("UNAVAILABLE", "it does not answer"),
                };
                models.push(ModelIndex {
                    name: model.name.clone(),
                    version: version.version.clone(),
                    state: state.into(),
                    reason: reason.into(),
                });
            }
        }
        let missing = table.missing.iter().map(|(name, reason)| ModelIndex {
            name: name.clone(),
            version: String::new(),
            state: "UNAVAILABLE".into(),
            reason: reason.clone(),
        });
        models.extend(missing);
        models.retain(|model| !request.get_ref().ready || model.state == "READY");
        Ok(Response::new(RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Answer<RepositoryModelLoadResponse> {
        let by = self.authorise(request.metadata())?;
        let name = request.into_inner().model_name;
        tracing::info!(model = shown(&name), by, "asked to load a model");
        self.0.serving.load(&name).await.map_err(Status::failed_precondition)?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Answer<RepositoryModelUnloadResponse> {
        let by = self.authorise(request.metadata())?;
        let name = request.into_inner().model_name;
        tracing::info!(model = shown(&name), by, "asked to unload a model");
        self.0.serving.unload(&name).await.map_err(Status::not_found)?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }
}
