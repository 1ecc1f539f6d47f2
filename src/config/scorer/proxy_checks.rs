//! What a `proxy` section can get wrong beyond its shape.

use super::checks::is_name;
use super::proxy::{PeerKind, ProxySettings};
use crate::config::diagnostic::Problem;
use crate::config::literals::is_secret_property;
use crate::config::receiver_checks::secret;
use crate::config::receivers::TextOrSecret;
use crate::config::yaml::child;

/// Element types, as `scorer::tensor::DataType` has them, that JSON has a form for.
const DATATYPES: [&str; 12] =
    ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64", "BYTES"];

/// `at` points to the section.
pub fn proxy(problems: &mut Vec<Problem>, at: &str, proxy: &ProxySettings) {
    url(problems, at, &proxy.url);
    versions(problems, at, proxy);
    for (name, value) in &proxy.headers {
        let pointer = child(&format!("{at}/headers"), name);
        match value {
            TextOrSecret::Secret(source) => secret(problems, &pointer, Some(source)),
            TextOrSecret::Text(_) if name.eq_ignore_ascii_case("authorization") || is_secret_property(name) => {
                let problem = Problem::error("literal-secret", pointer, format!("`{name}` holds the secret itself"));
                let help = "write `{env: NAME}` or `{file: PATH}`, and change the secret if this file was ever shared";
                problems.push(problem.help(help));
            }
            TextOrSecret::Text(_) => {}
        }
    }
    for (index, output) in proxy.outputs.iter().enumerate() {
        if !DATATYPES.contains(&output.datatype.as_str()) {
            let message = format!("`{}` is not an element type that JSON can carry", output.datatype);
            let problem = Problem::error("bad-datatype", format!("{at}/outputs/{index}/datatype"), message);
            problems.push(problem.help(format!("write one of {}", DATATYPES.join(", "))));
        }
    }
    for (key, span) in [
        ("timeout", proxy.timeout),
        ("connect_timeout", proxy.connect_timeout),
        ("health_interval", proxy.health_interval),
        ("circuit_open", proxy.circuit_open),
    ] {
        if span.ms == 0 {
            let problem =
                Problem::error("out-of-range", format!("{at}/{key}"), "this time must be longer than nothing");
            problems.push(problem.help("write `2s`, or leave it out"));
        }
    }
}

fn url(problems: &mut Vec<Problem>, at: &str, text: &str) {
    let wrong = match reqwest::Url::parse(text) {
        Err(error) => Some(format!("`{text}` is not a URL: {error}")),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => Some(format!("`{text}` is neither http nor https")),
        // Not repeated: the password would be in logs.
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Some("the URL holds a user or a password".to_string())
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            Some(format!("`{text}` has a query or a fragment"))
        }
        Ok(_) => None,
    };
    if let Some(message) = wrong {
        let help = "write scheme, host, port and, if need be, a path: `http://127.0.0.1:8080`; what lets in goes into `headers`";
        problems.push(Problem::error("bad-url", format!("{at}/url"), message).help(help));
    }
}

fn versions(problems: &mut Vec<Problem>, at: &str, proxy: &ProxySettings) {
    let pointer = format!("{at}/versions");
    if proxy.versions.is_empty() {
        let problem = Problem::error("bad-version", pointer.clone(), "there is no version");
        problems.push(problem.help("write `\"1\": {model: NAME}` with the model's name over there"));
    }
    for (version, peer) in &proxy.versions {
        let here = child(&pointer, version);
        if !is_name(version) {
            let message = format!("`{version}` is not a version: 1 to 128 letters, digits, `_`, `.` and `-`");
            problems.push(Problem::error("bad-name", here.clone(), message).key());
        }
        for (key, name) in [("model", Some(&peer.model)), ("version", peer.version.as_ref())] {
            if let Some(name) = name.filter(|name| !is_name(name)) {
                let message = format!("`{name}` cannot be part of the path of a request");
                let problem = Problem::error("bad-name", child(&here, key), message);
                problems.push(problem.help("1 to 128 letters, digits, `_`, `.` and `-` can"));
            }
        }
        let is_number = peer.version.as_ref().is_none_or(|version| version.parse::<u64>().is_ok());
        if proxy.kind == PeerKind::TfServing && !is_number {
            let message = "versions of TensorFlow Serving are whole numbers";
            problems.push(Problem::error("bad-version", child(&here, "version"), message).help("write `\"1\"`"));
        }
    }
}
