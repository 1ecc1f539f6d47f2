//! As little of an HTTP client as the figures need: one connection, kept open, one request after the other. What it does
//! costs the server its processor too, so it does little.

use std::io::{Read, Write};
use std::net::TcpStream;

pub struct Client {
    stream: TcpStream,
    host: String,
    buffer: Vec<u8>,
}

/// A request of the Open Inference Protocol for a model with one input `features`.
pub fn body(rows: usize, features: usize) -> String {
    let values: Vec<String> = (0..rows * features).map(|n| format!("{}", ((n * 37) % 101) as f32 / 50. - 1.)).collect();
    format!(
        "{{\"inputs\":[{{\"name\":\"features\",\"shape\":[{rows},{features}],\"datatype\":\"FP32\",\"data\":[{}]}}]}}",
        values.join(",")
    )
}

impl Client {
    pub fn open(url: &str) -> Self {
        let host = url.strip_prefix("http://").expect("http://HOST:PORT").trim_end_matches('/').to_string();
        let stream = TcpStream::connect(&host).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, host, buffer: vec![0; 1 << 20] }
    }

    pub fn request(&self, model: &str, body: &str) -> Vec<u8> {
        let head = format!(
            "POST /v2/models/{model}/infer HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        [head.into_bytes(), body.as_bytes().to_vec()].concat()
    }

    pub fn scores(&mut self, model: &str, body: &str) -> Vec<f64> {
        let request = self.request(model, body);
        let answer: serde_json::Value = serde_json::from_slice(self.exchange(&request)).unwrap();
        let data = answer["outputs"][0]["data"].as_array().expect("an output").iter();
        data.map(|score| score.as_f64().unwrap()).collect()
    }

    /// Sends a request and gives the body of its answer, which must be 200 with a `Content-Length`.
    pub fn exchange(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).unwrap();
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).unwrap();
            assert!(read > 0, "the server closed the connection");
            filled += read;
            let answer = &self.buffer[..filled];
            let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            let text = std::str::from_utf8(&answer[..head]).unwrap().to_ascii_lowercase();
            assert!(text.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(answer));
            let length = text.split_once("content-length: ").expect("a Content-Length").1;
            let length: usize = length.split("\r\n").next().unwrap().trim().parse().unwrap();
            assert!(head + 4 + length <= self.buffer.len(), "the answer is too long for this client");
            if filled == head + 4 + length {
                return &self.buffer[head + 4..filled];
            }
        }
    }
}
