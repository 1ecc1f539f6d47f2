//! gRPC over a real socket, with the clients that the messages give.

use bytes::Bytes;
use driftline::config::receivers::Secret;
use driftline::config::service::{Role, Token};
use driftline::http::access::Access;
use driftline::scorer::admin::{LoadedVersion, Serving};
use driftline::scorer::protocols::grpc::generated::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use driftline::scorer::protocols::grpc::generated::inference::model_infer_request::InferInputTensor;
use driftline::scorer::protocols::grpc::generated::inference::{
    InferTensorContents, ModelConfigRequest, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest,
    ModelStatisticsRequest, RepositoryIndexRequest, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
    ServerMetadataRequest, ServerReadyRequest,
};
use driftline::scorer::protocols::grpc::generated::tensorflow::serving::model_service_client::ModelServiceClient;
use driftline::scorer::protocols::grpc::generated::tensorflow::serving::model_spec::VersionChoice;
use driftline::scorer::protocols::grpc::generated::tensorflow::serving::prediction_service_client::PredictionServiceClient;
use driftline::scorer::protocols::grpc::generated::tensorflow::serving::{
    GetModelMetadataRequest, GetModelStatusRequest, ModelSpec, PredictRequest,
};
use driftline::scorer::protocols::grpc::generated::tensorflow::tensor_shape_proto::Dim;
use driftline::scorer::protocols::grpc::generated::tensorflow::{DataType, TensorProto, TensorShapeProto};
use driftline::scorer::serve::grpc::{Calls, server};
use futures::stream::iter;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::*;

const TOKEN: &str = "0123456789abcdef-operate";
const READER: &str = "0123456789abcdef-reads";

struct Memory(FollowHandle);

#[tonic::async_trait]
impl Serving for Memory {
    async fn prepare(&self, model: &str, version: &str) -> Result<(), String> {
        self.0.prepare(model, version).await
    }

    fn changed(&self, _: &str) {
        self.0.notify();
    }

    fn loaded(&self, _: &str) -> Vec<LoadedVersion> {
        Vec::new()
    }

    async fn load(&self, model: &str) -> Result<(), String> {
        self.0.load(model).await
    }

    async fn unload(&self, model: &str) -> Result<(), String> {
        self.0.unload(model).await
    }
}

struct Served {
    running: Running,
    address: std::net::SocketAddr,
}

impl Served {
    async fn start(settings: HttpSettings, tokens: &[Token]) -> Self {
        let running = Running::start(settings.clone()).await;
        running.change(|state| state.production = Some("sum".into())).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Calls {
            context: Arc::new(Context::new(running.scorer.clone(), &settings)),
            access: Arc::new(Access::at("127.0.0.1:0", tokens).unwrap()),
            serving: Arc::new(Memory(running.follow.clone())),
        };
        drop(server::start(listener, calls, &settings, running.stop.clone()));
        Self { running, address }
    }

    async fn plain() -> Self {
        Self::start(HttpSettings::default(), &[]).await
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn client(&self) -> GrpcInferenceServiceClient<Channel> {
        GrpcInferenceServiceClient::new(self.channel().await)
    }
}

fn floats(values: &[f32]) -> InferInputTensor {
    InferInputTensor {
        name: "features".into(),
        datatype: "FP32".into(),
        shape: vec![i64::try_from(values.len() / 2).unwrap(), 2],
        contents: Some(InferTensorContents { fp32_contents: values.to_vec(), ..InferTensorContents::default() }),
        ..InferInputTensor::default()
    }
}

fn typed(values: &[f32]) -> ModelInferRequest {
    ModelInferRequest { model_name: "fraud".into(), inputs: vec![floats(values)], ..ModelInferRequest::default() }
}

fn raw(values: &[f32]) -> ModelInferRequest {
    let mut request = typed(values);
    request.inputs[0].contents = None;
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    request.raw_input_contents = vec![Bytes::from(bytes)];
    request
}

fn with<T>(message: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, MetadataValue::try_from(*value).unwrap());
    }
    request
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), status.message().to_string())
}

#[tokio::test]
async fn typed_and_raw_tensors_are_scored_and_the_rest_of_the_service_answers() {
    let served = Served::plain().await;
    let mut client = served.client().await;
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let server = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(server.name, "driftline-scorer");
    let ready = ModelReadyRequest { name: "fraud".into(), version: String::new() };
    assert!(client.model_ready(ready).await.unwrap().into_inner().ready);
    let asked = ModelMetadataRequest { name: "fraud".into(), version: String::new() };
    let model = client.model_metadata(asked).await.unwrap().into_inner();
    assert_eq!((model.inputs[0].name.as_str(), model.inputs[0].shape.as_slice()), ("features", &[-1, 2][..]));

    let answer = client.model_infer(with(typed(&[1.5, 2.0, 0.1, 0.2]), &[("x-request-id", "mine")])).await.unwrap();
    assert_eq!(answer.metadata().get("driftline-version").unwrap(), "sum");
    assert_eq!(answer.metadata().get("driftline-arm").unwrap(), "production");
    let message = answer.into_inner();
    let found = &message.outputs[0].contents.as_ref().unwrap().fp32_contents;
    assert_eq!((found.as_slice(), message.id.as_str()), (&[3.5, 0.1_f32 + 0.2_f32][..], "mine"));
    let message = client.model_infer(raw(&[f32::MIN_POSITIVE, -0.0])).await.unwrap().into_inner();
    assert_eq!(message.raw_output_contents[0].as_ref(), f32::MIN_POSITIVE.to_le_bytes());

    let config = ModelConfigRequest { name: "fraud".into(), version: String::new() };
    assert_eq!(client.model_config(config).await.unwrap().into_inner().config.unwrap().name, "fraud");
    let asked = ModelStatisticsRequest { name: "fraud".into(), version: "sum".into() };
    let statistics = client.model_statistics(asked).await.unwrap().into_inner();
    assert_eq!(statistics.model_stats[0].inference_count, 3);
    let metrics = served.running.scorer.metrics();
    let answered = metrics.grpc_responses.with_label_values(&["inference.GRPCInferenceService", "Ok"]).get();
    assert_eq!(answered, 8);
}

#[tokio::test]
async fn versions_time_limits_and_names_are_those_of_http() {
    let served = Served::plain().await;
    let mut client = served.client().await;
    let pinned = ModelInferRequest { model_version: "1".into(), ..typed(&[1.0, 2.0]) };
    assert_eq!(refused(client.model_infer(pinned).await).0, Code::NotFound, "1 was taken out of memory");
    served.running.change(|state| state.previous = Some("2".into())).await;
    let answer = client.model_infer(with(typed(&[1.0, 2.0]), &[("driftline-version", "2")])).await.unwrap();
    assert_eq!(answer.into_inner().outputs[0].contents.as_ref().unwrap().fp32_contents, [2.0]);
    let stranger = ModelInferRequest { model_name: "nobody".into(), ..typed(&[1.0, 2.0]) };
    assert_eq!(refused(client.model_infer(stranger).await), (Code::NotFound, "there is no model `nobody`".into()));
    let late = with(typed(&[1.0, 2.0]), &[("driftline-timeout-ms", "0")]);
    assert_eq!(refused(client.model_infer(late).await).0, Code::DeadlineExceeded);
    for (name, value) in [("driftline-timeout-ms", "soon"), ("driftline-version", "../1"), ("driftline-priority", "x")]
    {
        let (code, message) = refused(client.model_infer(with(typed(&[1.0, 2.0]), &[(name, value)])).await);
        assert_eq!(code, Code::InvalidArgument, "{name}: {message}");
    }
}

#[tokio::test]
async fn every_message_that_contradicts_itself_is_an_invalid_argument_that_says_so() {
    let served = Served::plain().await;
    let mut client = served.client().await;
    let good = raw(&[1.0, 2.0]);
    let change = |change: fn(&mut ModelInferRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let cases = [
        (change(|request| request.raw_input_contents[0] = Bytes::from_static(&[0; 7])), "7 bytes"),
        (change(|request| request.raw_input_contents[0] = Bytes::from_static(&[0; 16])), "16 bytes"),
        (change(|request| request.raw_input_contents.clear()), "features"),
        (change(|request| request.raw_input_contents.push(Bytes::new())), "2 entries"),
        (change(|request| request.inputs[0].shape = vec![-1, 2]), "-1"),
        (change(|request| request.inputs[0].shape = vec![i64::MAX, i64::MAX]), "more than"),
        (change(|request| request.inputs[0].shape = vec![1; 9]), "9 dimensions"),
        (change(|request| request.inputs[0].shape = vec![2, 1]), "shape"),
        (change(|request| request.inputs[0].datatype = "FP31".into()), "FP31"),
        (change(|request| request.inputs[0].datatype = "INT32".into()), "INT32"),
        (change(|request| request.inputs[0].datatype = "BYTES".into()), "features"),
        (change(|request| request.inputs[0].name = "other".into()), "`features` is missing"),
        (change(|request| request.inputs[0].contents = Some(InferTensorContents::default())), "both"),
        (change(|request| request.inputs.clear()), "entries"),
    ];
    for (request, wanted) in cases {
        let shown = format!("{:?}", request.inputs);
        let (code, message) = refused(client.model_infer(request).await);
        assert!(code == Code::InvalidArgument && message.contains(wanted), "{shown}: {code:?} {message}");
    }
    assert!(client.model_infer(good).await.is_ok());
}

#[tokio::test]
async fn a_stream_answers_each_request_in_its_order_and_outlives_one_that_fails() {
    let served = Served::plain().await;
    let mut client = served.client().await;
    let mut bad = raw(&[1.0, 2.0]);
    bad.raw_input_contents[0] = Bytes::from_static(&[0; 3]);
    let sent: Vec<ModelInferRequest> = vec![typed(&[1.0, 2.0]), bad, typed(&[3.0, 4.0])];
    let mut answers = client.model_stream_infer(iter(sent)).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        found.push(match answer.infer_response {
            Some(response) => format!("{:?}", response.outputs[0].contents.as_ref().unwrap().fp32_contents),
            None => answer.error_message,
        });
    }
    assert_eq!((found.len(), found[0].as_str(), found[2].as_str()), (3, "[3.0]", "[7.0]"), "{found:?}");
    assert!(found[1].contains("3 bytes"), "{found:?}");
    assert_eq!(served.running.scorer.metrics().http_body_bytes.get(), 0);
}

#[tokio::test]
async fn messages_and_connections_have_the_limits_of_http() {
    let settings = HttpSettings {
        max_body_bytes: 64 << 10,
        max_bodies_bytes: 32 << 10,
        max_connections: 1,
        ..HttpSettings::default()
    };
    let served = Served::start(settings, &[]).await;
    let mut client = served.client().await;
    let (code, message) = refused(client.model_infer(typed(&[1.0; 20_000])).await);
    assert_eq!(code, Code::OutOfRange, "{message}");
    let (code, message) = refused(client.model_infer(typed(&[1.0; 10_000])).await);
    assert!(code == Code::Unavailable && message.contains("`http.max_bodies_bytes`"), "{code:?} {message}");
    assert!(client.model_infer(typed(&[1.0; 1_000])).await.is_ok(), "what was refused has given its memory back");
    assert_eq!(served.running.scorer.metrics().http_body_bytes.get(), 0);

    let other = Endpoint::from_shared(format!("http://{}", served.address)).unwrap();
    if let Ok(channel) = other.connect().await {
        assert!(GrpcInferenceServiceClient::new(channel).model_infer(typed(&[1.0, 2.0])).await.is_err());
    }
    let metrics = served.running.scorer.metrics();
    assert!(metrics.grpc_connections_refused.get() >= 1);
    assert_eq!(metrics.grpc_connections.get(), 1);
    assert!(client.model_infer(typed(&[1.0, 2.0])).await.is_ok(), "the first connection goes on");
}

#[tokio::test]
async fn the_repository_is_behind_a_token_that_may_operate() {
    let folder = tempfile::tempdir().unwrap();
    let token = |name: &str, role, value: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, value).unwrap();
        let token = Secret { env: None, file: Some(path.display().to_string()) };
        Token { name: name.into(), role, token }
    };
    let tokens = [token("operator", Role::Operate, TOKEN), token("reader", Role::Read, READER)];
    let served = Served::start(HttpSettings::default(), &tokens).await;
    let mut client = served.client().await;
    let bearer = |token: &str| format!("Bearer {token}");
    let unload = RepositoryModelUnloadRequest { model_name: "fraud".into(), ..RepositoryModelUnloadRequest::default() };
    let load = RepositoryModelLoadRequest { model_name: "fraud".into(), ..RepositoryModelLoadRequest::default() };
    assert_eq!(refused(client.repository_model_unload(unload.clone()).await).0, Code::Unauthenticated);
    let reads = with(unload.clone(), &[("authorization", &bearer(READER))]);
    assert_eq!(refused(client.repository_model_unload(reads).await).0, Code::PermissionDenied);
    assert!(client.model_infer(typed(&[1.0, 2.0])).await.is_ok(), "it is still there");

    let index = with(RepositoryIndexRequest::default(), &[("authorization", &bearer(TOKEN))]);
    let models = client.repository_index(index).await.unwrap().into_inner().models;
    assert!(models.iter().any(|model| model.name == "fraud" && model.state == "READY"), "{models:?}");
    client.repository_model_unload(with(unload, &[("authorization", &bearer(TOKEN))])).await.unwrap();
    assert_eq!(refused(client.model_infer(typed(&[1.0, 2.0])).await).0, Code::NotFound);
    client.repository_model_load(with(load, &[("authorization", &bearer(TOKEN))])).await.unwrap();
    assert!(client.model_infer(typed(&[1.0, 2.0])).await.is_ok());

    // Without tokens a loopback address is no protection here: whoever reaches this port may be elsewhere.
    let open = Served::plain().await;
    let asked = with(RepositoryIndexRequest::default(), &[("host", "localhost")]);
    assert_eq!(refused(open.client().await.repository_index(asked).await).0, Code::PermissionDenied);
}

#[tokio::test]
async fn tensorflow_servings_calls_are_answered() {
    let served = Served::plain().await;
    let mut client = PredictionServiceClient::new(served.channel().await);
    let spec = || ModelSpec { name: "fraud".into(), ..ModelSpec::default() };
    let dim = |size| Dim { size, name: String::new() };
    let tensor = TensorProto {
        dtype: DataType::DtFloat.into(),
        tensor_shape: Some(TensorShapeProto { dim: vec![dim(2), dim(2)], unknown_rank: false }),
        float_val: vec![1.5, 2.0, 0.25, 0.5],
        ..TensorProto::default()
    };
    let predict = |spec: ModelSpec| PredictRequest {
        model_spec: Some(spec),
        inputs: [("features".to_string(), tensor.clone())].into(),
        ..PredictRequest::default()
    };
    let answer = client.predict(predict(spec())).await.unwrap().into_inner();
    assert_eq!(answer.outputs["score"].float_val, [3.5, 0.75]);
    let answered_by = answer.model_spec.unwrap().version_choice;
    assert_eq!(answered_by, Some(VersionChoice::VersionLabel("sum".into())));
    let other = ModelSpec { signature_name: "classify".into(), ..spec() };
    let (code, message) = refused(client.predict(predict(other)).await);
    assert!(code == Code::InvalidArgument && message.contains("serving_default"), "{code:?} {message}");

    let asked = GetModelMetadataRequest { model_spec: Some(spec()), metadata_field: vec!["signature_def".into()] };
    let metadata = client.get_model_metadata(asked).await.unwrap().into_inner().metadata;
    assert!(metadata["signature_def"].type_url.ends_with("SignatureDefMap"));
    served.running.change(|state| state.production = Some("2".into())).await;
    let asked = GetModelStatusRequest { model_spec: Some(spec()) };
    let mut models = ModelServiceClient::new(served.channel().await);
    let status = models.get_model_status(asked).await.unwrap().into_inner().model_version_status;
    assert_eq!(status.iter().map(|status| status.version).collect::<Vec<_>>(), [2]);
}
