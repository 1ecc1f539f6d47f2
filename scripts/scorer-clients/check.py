"""Stock clients against a running scorer: check.py HTTP GRPC MODEL.onnx NAME [PEER_MODEL...]

Answers must be those of ONNX Runtime in Python, as f32, to the bit for models computed by the same library."""

import sys

import numpy as np
import onnxruntime
import tritonclient.grpc
import tritonclient.http

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


def refusals(http, grpc, model):
    from tritonclient.utils import InferenceServerException

    client = tritonclient.grpc.InferenceServerClient(grpc)
    tensor = tritonclient.grpc.InferInput("nonsense", [1], "FP32")
    tensor.set_data_from_numpy(np.zeros(1, np.float32))
    for name, code in ((model, "INVALID_ARGUMENT"), ("no-such-model", "NOT_FOUND")):
        try:
            client.infer(name, [tensor])
        except InferenceServerException as error:
            assert code in error.status(), error
            print(f"refused as it should be: {error}")
        else:
            raise AssertionError(f"{name} was answered")


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
    http, grpc, path, model, *peers = sys.argv[1:]
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
    refusals(http, grpc, model)
    print(f"{checked} answers are those of ONNX Runtime")


if __name__ == "__main__":
    main()
