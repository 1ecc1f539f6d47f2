"""A TorchServe handler that scores an ONNX model with one input: each request is a row, or rows, of numbers in JSON."""

import json
import os

import numpy as np
import onnxruntime


class OnnxHandler:
    def initialize(self, context):
        path = os.path.join(context.system_properties["model_dir"], "model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.output = self.session.get_outputs()[0].name

    def handle(self, requests, context):
        return [self.answer(request.get("body", request.get("data"))) for request in requests]

    def answer(self, body):
        if isinstance(body, (bytes, bytearray)):
            body = json.loads(body)
        rows = np.asarray(body, dtype=np.float32)
        scores = self.session.run([self.output], {self.input: np.atleast_2d(rows)})[0]
        # As numbers of double precision, so that no digit of a float is lost in JSON.
        scores = scores.astype(np.float64).tolist()
        return scores[0] if rows.ndim == 1 else scores
