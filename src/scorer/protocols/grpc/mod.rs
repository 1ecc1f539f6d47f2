//! The gRPC protocols: messages to requests and back. The services that carry them are in `serve::grpc`.
//!
//! `oip` is the Open Inference Protocol's, `tensorflow` is TensorFlow Serving's `Predict`. `generated` is written by
//! `scripts/protos.sh` from `protos`, so that no build needs protoc.
//!
//! To add a message: its fields in `protos`, with the numbers of the protocol; run the script; convert it in a file here.

pub mod oip;
pub mod tensorflow;

/// The services by name, for the metrics: what anybody may make up is no label.
pub const SERVICES: [&str; 3] =
    ["inference.GRPCInferenceService", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"];

/// As `scripts/protos.sh` writes it; nested as the packages are.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod generated {
    pub mod inference {
        include!("generated/inference.rs");
    }
    pub mod tensorflow {
        include!("generated/tensorflow.rs");
        pub mod serving {
            include!("generated/tensorflow.serving.rs");
        }
    }
}
