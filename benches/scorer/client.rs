//! As little of an HTTP client as the figures need: connections that are kept open, requests written whole. What it does
//! costs the server its processor too, so it does little.

use std::io::{Read, Write};
use std::net::TcpStream;

pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A request of the Open Inference Protocol for a model with one input `features`.
pub struct Body {
    pub bytes: Vec<u8>,
    /// Where binary data begin.
    header_length: Option<usize>,
}

impl Body {
    pub fn json(rows: usize, features: usize) -> Self {
        let values: Vec<String> = values(rows * features).map(|value| value.to_string()).collect();
        let text = format!(
            "{{\"inputs\":[{{\"name\":\"features\",\"shape\":[{rows},{features}],\"datatype\":\"FP32\",\"data\":[{}]}}]}}",
            values.join(",")
        );
        Self { bytes: text.into_bytes(), header_length: None }
    }

    /// Binary data there and back.
    pub fn binary(rows: usize, features: usize) -> Self {
        let size = rows * features * 4;
        let header = format!(
            "{{\"parameters\":{{\"binary_data_output\":true}},\"inputs\":[{{\"name\":\"features\",\"shape\":[{rows},{features}],\
             \"datatype\":\"FP32\",\"parameters\":{{\"binary_data_size\":{size}}}}}]}}"
        );
        let header_length = Some(header.len());
        let mut bytes = header.into_bytes();
        bytes.extend(values(rows * features).flat_map(f32::to_le_bytes));
        Self { bytes, header_length }
    }
}

fn values(count: usize) -> impl Iterator<Item = f32> {
    (0..count).map(|n| ((n * 37) % 101) as f32 / 50. - 1.)
}

/// A whole request, as it goes over the wire.
pub fn request(model: &str, body: &Body) -> Vec<u8> {
    let mut head = format!(
        "POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        body.bytes.len()
    );
    if let Some(length) = body.header_length {
        head += &format!("Inference-Header-Content-Length: {length}\r\n");
    }
    head += "\r\n";
    [head.into_bytes(), body.bytes.clone()].concat()
}

impl Client {
    pub fn open(url: &str) -> Self {
        let host = url.strip_prefix("http://").expect("http://HOST:PORT").trim_end_matches('/');
        let stream = TcpStream::connect(host).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; 1 << 17] }
    }

    pub fn scores(&mut self, model: &str, rows: usize, features: usize) -> Vec<f64> {
        self.send(&request(model, &Body::json(rows, features)));
        let answer: serde_json::Value = serde_json::from_slice(self.receive()).unwrap();
        let data = answer["outputs"][0]["data"].as_array().expect("an output").iter();
        data.map(|score| score.as_f64().unwrap()).collect()
    }

    pub fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).unwrap();
    }

    /// The body of the next answer, which must be 200 with a `Content-Length`.
    pub fn receive(&mut self) -> &[u8] {
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).unwrap();
            assert!(read > 0, "the server closed the connection");
            filled += read;
            let Some(start) = start_of_body(&self.buffer[..filled]) else { continue };
            let end = start + content_length(&self.buffer[..start]);
            assert!(end <= self.buffer.len(), "the answer is too long for this client");
            if filled == end {
                return &self.buffer[start..end];
            }
        }
    }
}

fn start_of_body(answer: &[u8]) -> Option<usize> {
    // A line feed is rare, a window of four bytes is not.
    let feeds = answer.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    feeds.map(|(at, _)| at + 1).find(|end| answer[..*end].ends_with(b"\r\n\r\n"))
}

fn content_length(head: &[u8]) -> usize {
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(head));
    let mut lines = head.split(|byte| *byte == b'\n');
    let name = b"content-length:";
    let line = lines.find(|line| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name));
    let value = &line.expect("a Content-Length")[name.len()..];
    std::str::from_utf8(value).unwrap().trim().parse().unwrap()
}
