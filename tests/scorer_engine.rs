//! What the engine promises, on a real ONNX Runtime: `ORT_DYLIB_PATH` is its library, `DRIFTLINE_PYTHON` a Python with
//! onnxruntime (`scripts/scorer_venv.sh`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scorer_support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use driftline::config::scorer::EngineSettings;
use driftline::config::scorer::engine::{CudaSettings, Device};
use driftline::scorer::batching::{BatchSettings, Job, Runner};
use driftline::scorer::engine::{Engine, EngineError, LoadedModel, OnnxEngine};
use driftline::scorer::score::ScoreError;
use driftline::scorer::tensor::{DataType, Tensor, TensorData, TensorLimits};
use scorer_support::{fp32, scores};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/scorer/{name}.onnx"))
}

fn engine() -> OnnxEngine {
    OnnxEngine::open(&EngineSettings::default(), Path::new(".")).expect("ORT_DYLIB_PATH names ONNX Runtime's library")
}

fn load(name: &str) -> Result<Arc<dyn LoadedModel>, EngineError> {
    engine().load(&std::fs::read(fixture(name)).unwrap())
}

fn refusal(name: &str) -> String {
    match load(name) {
        Err(EngineError::Model(text)) => text,
        Err(other) => panic!("{name} is refused for another reason: {other}"),
        Ok(_) => panic!("{name} is not refused"),
    }
}

fn tensor(name: &str, shape: &[usize], data: TensorData) -> Tensor {
    Tensor::new(name, shape.to_vec(), data, &TensorLimits::default()).unwrap()
}

#[test]
#[ignore = "needs ONNX Runtime and Python"]
fn answers_are_those_of_python_to_the_bit() {
    let python = std::env::var("DRIFTLINE_PYTHON").expect("DRIFTLINE_PYTHON is a Python with onnxruntime");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scorer/answers.py");
    for model in ["linear", "mlp", "trees"] {
        let mut session = load(model).unwrap().session().unwrap();
        for (rows, seed) in [(1, 1), (7, 2), (1000, 3)] {
            let arguments = [fixture(model).display().to_string(), rows.to_string(), seed.to_string()];
            let answer = Command::new(&python).arg(&script).args(arguments).output().unwrap();
            assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
            let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
            let floats = |bits: &serde_json::Value| -> Vec<f32> {
                let bits = bits.as_array().unwrap().iter();
                bits.map(|bits| f32::from_bits(u32::try_from(bits.as_u64().unwrap()).unwrap())).collect()
            };
            let outputs = session.score(&[fp32("features", vec![rows, 8], floats(&answer["features"]))]).unwrap();
            let expected = answer["outputs"].as_array().unwrap();
            assert_eq!(outputs.len(), expected.len());
            for (output, expected) in outputs.iter().zip(expected) {
                assert_eq!(output.name(), expected["name"].as_str().unwrap());
                assert_eq!(serde_json::json!(output.shape()), expected["shape"], "{model}");
                match output.data() {
                    TensorData::Fp32(values) => {
                        let expected = floats(&expected["values"]);
                        let differ = values.iter().zip(&expected).find(|(a, b)| a.to_bits() != b.to_bits());
                        assert_eq!((values.len(), differ), (expected.len(), None), "{model}, {rows} rows");
                    }
                    TensorData::Int64(values) => assert_eq!(serde_json::json!(values), expected["values"], "{model}"),
                    other => panic!("{model} gave {other:?}"),
                }
            }
        }
    }
}

#[test]
#[ignore = "needs ONNX Runtime"]
fn every_element_type_passes_through_as_it_is() {
    let model = load("types").unwrap();
    let data = [
        ("bool", TensorData::Bool(vec![true, false, false, true])),
        ("uint8", TensorData::Uint8(vec![0, 1, 127, 255])),
        ("uint16", TensorData::Uint16(vec![0, 1, 2, u16::MAX])),
        ("uint32", TensorData::Uint32(vec![0, 1, 2, u32::MAX])),
        ("uint64", TensorData::Uint64(vec![0, 1, 2, u64::MAX])),
        ("int8", TensorData::Int8(vec![i8::MIN, -1, 0, i8::MAX])),
        ("int16", TensorData::Int16(vec![i16::MIN, -1, 0, i16::MAX])),
        ("int32", TensorData::Int32(vec![i32::MIN, -1, 0, i32::MAX])),
        ("int64", TensorData::Int64(vec![i64::MIN, -1, 0, i64::MAX])),
        ("fp16", TensorData::Fp16(vec![0x3c00, 0xbc00, 0x7c00, 0x0001])),
        ("fp32", TensorData::Fp32(vec![f32::MIN, -0.0, f32::INFINITY, f32::MIN_POSITIVE])),
        ("fp64", TensorData::Fp64(vec![f64::MIN, -0.0, f64::INFINITY, f64::MIN_POSITIVE])),
        ("bytes", TensorData::Bytes(vec![b"".to_vec(), b"a".to_vec(), "ü€".into(), b"x".repeat(5000)])),
    ];
    let specs = &model.signature().inputs;
    assert_eq!(specs.iter().map(|spec| spec.datatype).collect::<Vec<_>>(), DataType::ALL);
    assert!(model.signature().batches);
    let mut inputs: Vec<Tensor> = data.iter().map(|(name, data)| tensor(name, &[2, 2], data.clone())).collect();
    // By name, whatever the order.
    inputs.reverse();
    let outputs = model.session().unwrap().score(&inputs).unwrap();
    for ((name, data), output) in data.iter().zip(&outputs) {
        assert_eq!((output.name(), output.shape()), (format!("{name}_out").as_str(), &[2, 2][..]));
        assert_eq!(output.data(), data);
    }
}

#[test]
#[ignore = "needs ONNX Runtime"]
fn models_that_cannot_be_served_are_refused_with_the_way_out() {
    let zipmap = refusal("zipmap");
    assert!(zipmap.starts_with("output `output_probability` is ") && zipmap.contains("{'zipmap': False}"), "{zipmap}");
    assert!(refusal("external").contains("weights in another file"));
    let custom = refusal("custom");
    assert!(custom.starts_with("the model cannot be loaded: ") && custom.contains("com.example"), "{custom}");
    let engine = engine();
    let whole = std::fs::read(fixture("mlp")).unwrap();
    for length in (0..whole.len()).step_by(97) {
        assert!(engine.load(&whole[..length]).is_err(), "cut to {length} bytes");
    }
    for position in (0..whole.len()).step_by(13) {
        let mut flipped = whole.clone();
        flipped[position] ^= 0xff;
        // Weights may be flipped and still be weights; what counts is an answer instead of a crash.
        let _ = engine.load(&flipped);
    }
}

#[test]
#[ignore = "needs ONNX Runtime"]
fn weights_beside_the_working_directory_are_not_read() {
    // The file that `external.onnx` names, where ONNX Runtime would look for it.
    let bytes = std::fs::read(fixture("external")).unwrap();
    let beside = Path::new("weights.bin");
    assert!(!beside.exists());
    std::fs::write(beside, vec![0; 1 << 16]).unwrap();
    let outcome = engine().load(&bytes).map(|_| "loaded");
    std::fs::remove_file(beside).unwrap();
    assert!(matches!(&outcome, Err(EngineError::Model(text)) if text.contains("never read")), "{outcome:?}");
}

#[test]
#[ignore = "needs ONNX Runtime"]
fn inputs_that_do_not_fit_are_the_callers_fault() {
    let mut mlp = load("mlp").unwrap().session().unwrap();
    let refused = |outcome: Result<Vec<Tensor>, EngineError>| match outcome {
        Err(EngineError::Input(text)) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(mlp.score(&[])), "the model takes 1 inputs, not 0");
    assert_eq!(refused(mlp.score(&[fp32("other", vec![1, 8], vec![0.; 8])])), "input `features` is missing");
    let doubles = tensor("features", &[1, 8], TensorData::Fp64(vec![0.; 8]));
    assert_eq!(refused(mlp.score(&[doubles])), "input `features` is FP64, the model takes FP32");
    for shape in [vec![1, 7], vec![8], vec![1, 8, 1], vec![], vec![2, 2, 2]] {
        let count = shape.iter().product();
        let text = refused(mlp.score(&[fp32("features", shape.clone(), vec![0.; count])]));
        assert!(text.len() < 400 && !text.contains("onnxruntime_src"), "{shape:?}: {text}");
    }
    assert_eq!(
        mlp.score(&[fp32("features", vec![0, 8], vec![])]).map(|outputs| outputs[0].shape().to_vec()),
        Ok(vec![0, 1])
    );
    let mut session = load("types").unwrap().session().unwrap();
    let mut inputs = one_row_of_each_type();
    inputs.pop();
    inputs.push(tensor("bytes", &[1, 2], TensorData::Bytes(vec![b"ok".to_vec(), vec![0xff]])));
    assert!(refused(session.score(&inputs)).contains("element 1 is not UTF-8"));
}

fn one_row_of_each_type() -> Vec<Tensor> {
    let names = [
        "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "fp16", "fp32", "fp64",
        "bytes",
    ];
    let zero = |(name, datatype): (&str, DataType)| tensor(name, &[1, 2], TensorData::zeros(datatype, 2));
    names.into_iter().zip(DataType::ALL).map(zero).collect()
}

#[tokio::test]
#[ignore = "needs ONNX Runtime"]
async fn one_bad_index_of_a_batch_costs_one_request() {
    let settings = BatchSettings { workers: Some(1), max_queue_delay_us: 200_000, ..BatchSettings::default() };
    let runner = Runner::start(load("gather").unwrap(), &settings, "gather 1").unwrap();
    let asked = (0..64_i64).map(|n| {
        let index = if n == 40 { 99 } else { n % 4 };
        let inputs = vec![tensor("index", &[1], TensorData::Int64(vec![index]))];
        runner.score(Job { inputs, ..Job::default() })
    });
    for (n, answer) in futures::future::join_all(asked).await.into_iter().enumerate() {
        match answer {
            Err(ScoreError::Invalid(text)) if n == 40 => assert!(text.contains("99"), "{text}"),
            Ok(outputs) if n != 40 => assert_eq!(scores(&outputs), [(n % 4) as f32 * 10.]),
            other => panic!("request {n}: {other:?}"),
        }
    }
    assert!(runner.stats().split_batches > 0);
}

#[tokio::test]
#[ignore = "needs ONNX Runtime"]
async fn a_model_without_rows_is_not_batched() {
    let model = load("total").unwrap();
    assert!(!model.signature().batches);
    let settings = BatchSettings { workers: Some(1), max_queue_delay_us: 100_000, ..BatchSettings::default() };
    let runner = Runner::start(model, &settings, "total 1").unwrap();
    let asked = (1..=8_u8).map(|n| {
        let inputs = vec![fp32("features", vec![1, 8], vec![f32::from(n); 8])];
        runner.score(Job { inputs, ..Job::default() })
    });
    for (n, answer) in (1..).zip(futures::future::join_all(asked).await) {
        assert_eq!(scores(&answer.unwrap()), [8. * n as f32]);
    }
}

#[test]
#[ignore = "needs ONNX Runtime"]
fn padding_to_buckets_changes_no_answer() {
    let bytes = std::fs::read(fixture("mlp")).unwrap();
    let mut plain = engine().load(&bytes).unwrap().session().unwrap();
    let mut bound = engine().bound_on_cpu(&bytes, &[1, 8, 64]).unwrap();
    bound.warm().unwrap();
    for rows in [1, 2, 8, 9, 64, 65, 200, 3, 1] {
        let values = (0..rows * 8).map(|n| ((n * 37) % 101) as f32 / 50. - 1.).collect();
        let inputs = [fp32("features", vec![rows, 8], values)];
        let (expected, found) = (plain.score(&inputs).unwrap(), bound.score(&inputs).unwrap());
        assert_eq!(found[0].shape(), [rows, 1]);
        // A product of matrices of another size may round otherwise.
        for (expected, found) in scores(&expected).iter().zip(scores(&found)) {
            assert!((expected - found).abs() <= 1e-6, "{rows} rows: {expected} {found}");
        }
    }
    let mut types = engine().bound_on_cpu(&std::fs::read(fixture("gather")).unwrap(), &[4]).unwrap();
    let index = tensor("index", &[2], TensorData::Int64(vec![3, 1]));
    assert_eq!(scores(&types.score(&[index]).unwrap()), [30., 10.]);
}

#[test]
#[ignore = "needs ONNX Runtime"]
fn a_gpu_that_is_not_there_is_no_silent_cpu() {
    let settings =
        EngineSettings { device: Device::Cuda, cuda: Some(CudaSettings::default()), ..EngineSettings::default() };
    let opened = OnnxEngine::open(&settings, Path::new("."));
    let outcome = opened.and_then(|engine| engine.load(&std::fs::read(fixture("mlp")).unwrap())).map(|_| "loaded");
    // A runtime without CUDA is refused at once, one with it (onnxruntime-gpu) when a model finds no GPU.
    let wanted = if cfg!(feature = "gpu") {
        ["has no CUDA execution provider", "no GPU for this model"]
    } else {
        ["built without it"; 2]
    };
    let refused =
        matches!(&outcome, Err(EngineError::Unavailable(text)) if wanted.iter().any(|part| text.contains(part)));
    assert!(refused, "{outcome:?}");
}

#[test]
#[ignore = "needs ONNX Runtime"]
fn another_library_than_the_loaded_one_is_refused() {
    drop(engine());
    let settings = EngineSettings { library: Some("other.so".into()), ..EngineSettings::default() };
    let outcome = OnnxEngine::open(&settings, Path::new(".")).map(|_| "opened");
    assert!(
        matches!(&outcome, Err(EngineError::Unavailable(text)) if text.contains("is loaded already")),
        "{outcome:?}"
    );
}
