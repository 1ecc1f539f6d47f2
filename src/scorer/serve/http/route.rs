//! What a path asks for. A function of method and path: it knows no models.

use std::borrow::Cow;

use hyper::Method;

use crate::scorer::names::check_name;
use crate::scorer::protocols::shown;

/// A model, and a version of it if the path has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    pub model: Cow<'a, str>,
    pub version: Option<Cow<'a, str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route<'a> {
    Home,
    Oip(OipRoute<'a>),
    Rows(RowsRoute<'a>),
    TorchServe(TorchServeRoute<'a>),
}

/// Requests of KServe V1 and of TensorFlow Serving's REST API, whose paths are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowsRoute<'a> {
    List,
    Model(Target<'a>),
    Metadata(Target<'a>),
    Predict(Target<'a>),
    /// `:classify`, `:regress`, `:explain`.
    Unsupported(&'a str),
}

/// Requests of TorchServe's inference API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TorchServeRoute<'a> {
    Ping,
    List,
    Describe(Target<'a>),
    Predict(Target<'a>),
}

/// Requests of the Open Inference Protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OipRoute<'a> {
    Server,
    Live,
    Ready,
    Model(Target<'a>),
    ModelReady(Target<'a>),
    Config(Target<'a>),
    Statistics(Option<Target<'a>>),
    Infer(Target<'a>),
    /// Of a repository: the admin server has it.
    Repository,
    SharedMemory,
}

/// A path that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteError {
    /// 404
    NotFound,
    /// 400, with what is wrong with a name.
    BadName(String),
    /// 405, with the method that would be right.
    Method(&'static str),
}

/// More than any path has.
const MAX_SEGMENTS: usize = 8;

/// # Errors
/// There is no such path, a name in it is none, or the method is wrong.
pub fn route<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, RouteError> {
    let mut segments = [""; MAX_SEGMENTS];
    let mut count = 0;
    for segment in path.strip_prefix('/').ok_or(RouteError::NotFound)?.split('/') {
        *segments.get_mut(count).ok_or(RouteError::NotFound)? = segment;
        count += 1;
    }
    // `/v2/` is `/v2`.
    if count > 1 && segments.get(count - 1) == Some(&"") {
        count -= 1;
    }
    match segments.get(..count).unwrap_or_default() {
        [""] => read(method, Route::Home),
        ["v2", rest @ ..] => oip(method, rest),
        ["v1", "models", rest @ ..] => rows(method, rest),
        ["ping"] => read(method, Route::TorchServe(TorchServeRoute::Ping)),
        ["models"] => read(method, Route::TorchServe(TorchServeRoute::List)),
        ["models", model] => read(method, Route::TorchServe(TorchServeRoute::Describe(target(model, None)?))),
        ["models", model, version] => {
            read(method, Route::TorchServe(TorchServeRoute::Describe(target(model, Some(version))?)))
        }
        ["predictions", model] => post(method, Route::TorchServe(TorchServeRoute::Predict(target(model, None)?))),
        ["predictions", model, version] => {
            post(method, Route::TorchServe(TorchServeRoute::Predict(target(model, Some(version))?)))
        }
        _ => Err(RouteError::NotFound),
    }
}

fn oip<'a>(method: &Method, rest: &[&'a str]) -> Result<Route<'a>, RouteError> {
    let of = |route| read(method, Route::Oip(route));
    match rest {
        [] => of(OipRoute::Server),
        ["health", "live"] => of(OipRoute::Live),
        ["health", "ready"] => of(OipRoute::Ready),
        ["models", "stats"] => of(OipRoute::Statistics(None)),
        ["models", model] => of(OipRoute::Model(target(model, None)?)),
        ["models", model, "ready"] => of(OipRoute::ModelReady(target(model, None)?)),
        ["models", model, "config"] => of(OipRoute::Config(target(model, None)?)),
        ["models", model, "stats"] => of(OipRoute::Statistics(Some(target(model, None)?))),
        ["models", model, "infer"] => post(method, Route::Oip(OipRoute::Infer(target(model, None)?))),
        ["models", model, "versions", version] => of(OipRoute::Model(target(model, Some(version))?)),
        ["models", model, "versions", version, "ready"] => of(OipRoute::ModelReady(target(model, Some(version))?)),
        ["models", model, "versions", version, "config"] => of(OipRoute::Config(target(model, Some(version))?)),
        ["models", model, "versions", version, "stats"] => {
            of(OipRoute::Statistics(Some(target(model, Some(version))?)))
        }
        ["models", model, "versions", version, "infer"] => {
            post(method, Route::Oip(OipRoute::Infer(target(model, Some(version))?)))
        }
        ["repository", ..] => Ok(Route::Oip(OipRoute::Repository)),
        ["systemsharedmemory" | "cudasharedmemory", ..] => Ok(Route::Oip(OipRoute::SharedMemory)),
        _ => Err(RouteError::NotFound),
    }
}

/// A verb stands behind the last segment: `/v1/models/fraud:predict`.
fn rows<'a>(method: &Method, rest: &[&'a str]) -> Result<Route<'a>, RouteError> {
    let Some((last, before)) = rest.split_last() else { return read(method, Route::Rows(RowsRoute::List)) };
    let (last, verb) = last.split_once(':').map_or((*last, None), |(last, verb)| (last, Some(verb)));
    let of = match (before, last) {
        ([], model) => target(model, None)?,
        ([model, "versions"], version) => target(model, Some(version))?,
        // A label is an arm's name; `production` is the only one that is always there.
        ([model, "labels"], "production" | "stable") => target(model, None)?,
        ([_, "labels"], label) => {
            let message = format!("there is no label `{}`: use `production`, or a version", shown(label));
            return Err(RouteError::BadName(message));
        }
        ([model], "metadata") if verb.is_none() => {
            return read(method, Route::Rows(RowsRoute::Metadata(target(model, None)?)));
        }
        ([model, "versions", version], "metadata") if verb.is_none() => {
            return read(method, Route::Rows(RowsRoute::Metadata(target(model, Some(version))?)));
        }
        _ => return Err(RouteError::NotFound),
    };
    match verb {
        None => read(method, Route::Rows(RowsRoute::Model(of))),
        Some("predict") => post(method, Route::Rows(RowsRoute::Predict(of))),
        Some(verb @ ("classify" | "regress" | "explain")) => Ok(Route::Rows(RowsRoute::Unsupported(verb))),
        Some(_) => Err(RouteError::NotFound),
    }
}

pub(super) fn read<'a>(method: &Method, route: Route<'a>) -> Result<Route<'a>, RouteError> {
    if matches!(*method, Method::GET | Method::HEAD) { Ok(route) } else { Err(RouteError::Method("GET")) }
}

pub(super) fn post<'a>(method: &Method, route: Route<'a>) -> Result<Route<'a>, RouteError> {
    if *method == Method::POST { Ok(route) } else { Err(RouteError::Method("POST")) }
}

pub(super) fn target<'a>(model: &'a str, version: Option<&'a str>) -> Result<Target<'a>, RouteError> {
    let version = version.map(|version| name("version", version)).transpose()?;
    Ok(Target { model: name("model", model)?, version })
}

/// One segment of a path as a name: whatever it spells, it is one part of a path at most.
pub(super) fn name<'a>(what: &'static str, segment: &'a str) -> Result<Cow<'a, str>, RouteError> {
    let name = match segment.contains('%') {
        false => Cow::Borrowed(segment),
        true => Cow::Owned(percent_decoded(segment)),
    };
    check_name(what, &name).map_err(|bad| RouteError::BadName(bad.to_string()))?;
    Ok(name)
}

/// What is no escape, or no UTF-8, stays as it is or is replaced: no name has either.
fn percent_decoded(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escape = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = escape.filter(|_| byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(value.unwrap_or(byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_place_are_refused_however_they_are_spelt() {
        for path in [
            "/v2/models/../infer",
            "/v2/models/%2e%2e/infer",
            "/v2/models/..%2f..%2fetc/infer",
            "/v2/models/a%00b/infer",
            "/v2/models/%252e%252e/infer",
            "/v2/models//infer",
            "/v2/models/m/versions/../infer",
            "/v2/models/m/versions/%2E/infer",
            "/v2/models/%ff/infer",
            "/v2/models/a%/infer",
        ] {
            assert!(matches!(route(&Method::POST, path), Err(RouteError::BadName(_))), "{path}");
        }
        assert_eq!(route(&Method::GET, &format!("/v2{}", "/a".repeat(10_000))), Err(RouteError::NotFound));
        assert_eq!(route(&Method::GET, "*"), Err(RouteError::NotFound));
    }

    #[test]
    fn a_name_may_be_escaped() {
        let Ok(Route::Oip(OipRoute::Infer(target))) = route(&Method::POST, "/v2/models/fr%61ud/versions/3/infer")
        else {
            unreachable!("no route")
        };
        assert_eq!((target.model.as_ref(), target.version.as_deref()), ("fraud", Some("3")));
    }
}
