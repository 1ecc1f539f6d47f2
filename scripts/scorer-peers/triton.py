"""A real Triton (its PyPI build, Python backend) that serves an ONNX model: triton.py MODEL NAME HTTP_PORT GRPC_PORT"""

import sys

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

NUMPY = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


def tensors(described):
    # The batch is not part of Triton's shapes.
    shapes = [tuple(size if isinstance(size, int) else -1 for size in one.shape[1:]) for one in described]
    return [Tensor(name=one.name, dtype=NUMPY[one.type], shape=shape) for one, shape in zip(described, shapes)]


def main():
    path, name, http_port, grpc_port = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]

    @batch
    def infer(**inputs):
        return dict(zip(outputs, session.run(outputs, inputs)))

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(http_port),
        grpc_address="127.0.0.1",
        grpc_port=int(grpc_port),
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=name,
            infer_func=infer,
            inputs=tensors(session.get_inputs()),
            outputs=tensors(session.get_outputs()),
            config=ModelConfig(max_batch_size=4096, batching=True, batcher=DynamicBatcher()),
            strict=True,
        )
        triton.serve()


if __name__ == "__main__":
    main()
