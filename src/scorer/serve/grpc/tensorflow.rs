//! TensorFlow Serving's `PredictionService` and `ModelService`.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use tonic::{Request, Response, Status};

use super::{Calls, deadline, overrides};
use crate::scorer::protocols::grpc::generated::tensorflow::serving::model_service_server::ModelService;
use crate::scorer::protocols::grpc::generated::tensorflow::serving::model_version_status::State;
use crate::scorer::protocols::grpc::generated::tensorflow::serving::prediction_service_server::PredictionService;
use crate::scorer::protocols::grpc::generated::tensorflow::serving::{
    Any, GetModelMetadataRequest, GetModelMetadataResponse, GetModelStatusRequest, GetModelStatusResponse,
    ModelVersionStatus, PredictRequest, PredictResponse, SignatureDefMap, StatusProto,
};
use crate::scorer::protocols::grpc::tensorflow as messages;
use crate::scorer::score::ScoreRequest;

/// The only metadata that there are.
const SIGNATURE_DEF: &str = "signature_def";
const SIGNATURE_DEF_TYPE: &str = "type.googleapis.com/tensorflow.serving.SignatureDefMap";

pub struct Predictions(pub Calls);

pub struct Models(pub Calls);

#[tonic::async_trait]
impl PredictionService for Predictions {
    async fn predict(&self, request: Request<PredictRequest>) -> Result<Response<PredictResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let overrides = overrides(&metadata)?;
        let context = &self.0.context;
        let predict = messages::decode(message, &context.limits)?;
        let request = ScoreRequest {
            model: predict.model,
            version: predict.version.or(overrides.version),
            arm: overrides.arm,
            id: overrides.id,
            entity: overrides.entity,
            inputs: predict.inputs,
            outputs: predict.outputs,
            priority: overrides.priority.unwrap_or_default(),
            deadline: deadline(context, &metadata, overrides.timeout),
        };
        Ok(Response::new(messages::encode(context.scorer.score(request).await?)))
    }

    async fn get_model_metadata(
        &self,
        request: Request<GetModelMetadataRequest>,
    ) -> Result<Response<GetModelMetadataResponse>, Status> {
        let request = request.into_inner();
        if request.metadata_field.iter().any(|field| field != SIGNATURE_DEF) {
            return Err(Status::invalid_argument(format!("`{SIGNATURE_DEF}` is the only metadata field")));
        }
        let (name, asked) = messages::model(request.model_spec)?;
        let model = self.0.context.scorer.model(&name)?;
        let version = match &asked {
            Some(version) => model.version(version)?,
            None => model.production()?,
        };
        let signature = version.backend.signature();
        let signature = signature.ok_or_else(|| Status::unavailable("what this model takes is not known here"))?;
        let map = SignatureDefMap {
            signature_def: BTreeMap::from([(messages::SIGNATURE.to_string(), messages::signature_def(&signature))]),
        };
        let packed = Any { type_url: SIGNATURE_DEF_TYPE.into(), value: Bytes::from(map.encode_to_vec()) };
        Ok(Response::new(GetModelMetadataResponse {
            model_spec: Some(messages::spec(name, &version.version)),
            metadata: BTreeMap::from([(SIGNATURE_DEF.to_string(), packed)]),
        }))
    }
}

#[tonic::async_trait]
impl ModelService for Models {
    /// Versions whose names are no numbers have no place in this message, and are left out.
    async fn get_model_status(
        &self,
        request: Request<GetModelStatusRequest>,
    ) -> Result<Response<GetModelStatusResponse>, Status> {
        let (name, asked) = messages::model(request.into_inner().model_spec)?;
        let model = self.0.context.scorer.model(&name)?;
        if let Some(version) = &asked {
            model.version(version)?;
        }
        let mut model_version_status = Vec::new();
        for version in model.versions.values() {
            let Ok(number) = version.version.parse() else { continue };
            if asked.as_ref().is_some_and(|asked| *asked != version.version) {
                continue;
            }
            let state = if version.backend.ready() { State::Available } else { State::Loading };
            model_version_status.push(ModelVersionStatus {
                version: number,
                state: state.into(),
                status: Some(StatusProto::default()),
            });
        }
        Ok(Response::new(GetModelStatusResponse { model_version_status }))
    }
}
