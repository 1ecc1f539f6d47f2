"""Stock clients against a running scorer: check.py HTTP GRPC ADMIN TOKEN_FILE MODEL.onnx NAME [PEER_MODEL...]

Answers must be those of ONNX Runtime in Python, as f32, to the bit for models computed by the same library."""

import sys

import grpc as grpc_library
import numpy as np
import onnxruntime
import tritonclient.grpc
import tritonclient.http
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc
from tritonclient.utils import InferenceServerException

ROWS = (1, 2, 7, 64)


def expected(session, rows):
    name = session.get_outputs()[0].name
    # Row by row and as one batch may differ in the last digit; a batch is what is compared.
    return session.run([name], {session.get_inputs()[0].name: rows})[0]


def close(what, found, wanted):
    found = np.asarray(found, dtype=np.float32).reshape(wanted.shape)
    worst = float(np.max(np.abs(found - wanted))) if wanted.size else 0.0
    equal = int(np.sum(found == wanted))
    print(f"{what}: {equal} of {wanted.size} equal to the bit, largest difference {worst:.3g}")
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-7, err_msg=what)


def with_triton(package, address, model, session, rows, raw):
    client = package.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
    assert client.get_server_metadata() and client.get_model_metadata(model)
    name = session.get_inputs()[0].name
    tensor = package.InferInput(name, list(rows.shape), "FP32")
    if package is tritonclient.http:
        tensor.set_data_from_numpy(rows, binary_data=raw)
    else:
        tensor.set_data_from_numpy(rows)
    result = client.infer(model, [tensor], request_id="stock")
    return result.as_numpy(session.get_outputs()[0].name)


def expect(code, call):
    """Runs a call that must be refused with this code."""
    try:
        call()
    except InferenceServerException as error:
        assert code in str(error.status()), f"{error.status()} instead of {code}: {error}"
        print(f"refused as it should be: {error}")
    else:
        raise AssertionError(f"{code} was expected, and it was answered")


def nonsense(package):
    tensor = package.InferInput("nonsense", [1], "FP32")
    tensor.set_data_from_numpy(np.zeros(1, np.float32))
    return [tensor]


def rest_of_the_clients(http, grpc, admin, token, model, session, rows):
    """What the clients have beside `infer`: descriptions, priorities, outputs by name, waiting for an answer elsewhere."""
    headers = {"authorization": f"Bearer {token}"}
    output = session.get_outputs()[0].name
    for package, address, codes in (
        (tritonclient.http, http, ("400", "404")),
        (tritonclient.grpc, grpc, ("INVALID_ARGUMENT", "NOT_FOUND")),
    ):
        client = package.InferenceServerClient(address)
        tensor = package.InferInput(session.get_inputs()[0].name, list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows)
        asked = {"outputs": [package.InferRequestedOutput(output)], "priority": 1, "timeout": 5_000_000}
        result = client.infer(model, [tensor], request_id="mine", parameters={"entity": "card-7"}, **asked)
        close(f"{model}, {package.__name__}, an output by name", result.as_numpy(output), expected(session, rows))
        assert client.get_model_config(model) and client.get_inference_statistics(model)
        expect(codes[0], lambda: client.infer(model, nonsense(package)))
        expect(codes[1], lambda: client.infer("no-such-model", nonsense(package)))
        expect(codes[0], lambda: client.infer(model, [tensor], outputs=[package.InferRequestedOutput(output, class_count=2)]))
        repository = client if package is tritonclient.grpc else package.InferenceServerClient(admin)
        expect("UNAUTHENTICATED" if package is tritonclient.grpc else "401", lambda: repository.unload_model(model))
        assert repository.get_model_repository_index(headers=headers)
        repository.unload_model(model, headers=headers)
        expect(codes[1], lambda: client.infer(model, [tensor]))
        repository.load_model(model, headers=headers)
        close(f"{model}, loaded again", client.infer(model, [tensor]).as_numpy(output), expected(session, rows))
    client = tritonclient.http.InferenceServerClient(http, concurrency=4)
    tensor = tritonclient.http.InferInput(session.get_inputs()[0].name, list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    for answer in [client.async_infer(model, [tensor]) for _ in range(8)]:
        close(f"{model}, HTTP, eight at once", answer.get_result().as_numpy(output), expected(session, rows))


def tensorflow(address, model, session, rows):
    """TensorFlow Serving's published stubs, by element and as bytes."""
    channel = grpc_library.insecure_channel(address)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
    for content in (False, True):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = "serving_default"
        tensor = request.inputs[name]
        tensor.dtype = types_pb2.DT_FLOAT
        for size in rows.shape:
            tensor.tensor_shape.dim.add(size=size)
        if content:
            tensor.tensor_content = rows.tobytes()
        else:
            tensor.float_val.extend(rows.ravel())
        answer = stub.Predict(request, timeout=10)
        assert answer.model_spec.version.value == 1, answer.model_spec
        how = "tensor_content" if content else "float_val"
        close(f"{model}, TensorFlow Serving over gRPC, {how}", answer.outputs[output].float_val, expected(session, rows))
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = model
    found = get_model_metadata_pb2.SignatureDefMap()
    assert stub.GetModelMetadata(request, timeout=10).metadata["signature_def"].Unpack(found)
    signature = found.signature_def["serving_default"]
    assert (list(signature.inputs), list(signature.outputs)) == ([name], [output]), signature


def stream(grpc, model, session, rows):
    import queue

    client, answers = tritonclient.grpc.InferenceServerClient(grpc), queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    tensor = tritonclient.grpc.InferInput(session.get_inputs()[0].name, list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    for _ in range(3):
        client.async_stream_infer(model, [tensor])
    output = session.get_outputs()[0].name
    for _ in range(3):
        result, error = answers.get(timeout=10)
        assert error is None, error
        close(f"{model}, stream", result.as_numpy(output), expected(session, rows))
    client.stop_stream()


def main():
    http, grpc, admin, token_file, path, model, *peers = sys.argv[1:]
    with open(token_file) as file:
        token = file.read()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    width = session.get_inputs()[0].shape[1]
    random = np.random.default_rng(7)
    checked = 0
    for count in ROWS:
        rows = random.standard_normal((count, width)).astype(np.float32)
        wanted = expected(session, rows)
        for name in (model, *peers):
            for how, package, address, raw in (
                ("HTTP, binary", tritonclient.http, http, True),
                ("HTTP, JSON", tritonclient.http, http, False),
                ("gRPC", tritonclient.grpc, grpc, True),
            ):
                close(f"{name}, {count} rows, {how}", with_triton(package, address, name, session, rows, raw), wanted)
                checked += 1
    stream(grpc, model, session, rows)
    tensorflow(grpc, model, session, rows)
    rest_of_the_clients(http, grpc, admin, token, model, session, rows)
    print(f"{checked} answers are those of ONNX Runtime")


if __name__ == "__main__":
    main()
