//! Who may do what: tokens with roles, and what keeps a browser from being made to act for somebody else.
//!
//! A token comes as `Authorization: Bearer TOKEN`, or as the password of HTTP Basic (any user name), which browsers ask
//! for by themselves. Browsers send it with every request, also with one that another site has caused: requests that
//! change something must come from a page of this server (`Sec-Fetch-Site`, else `Origin`), or from no browser at all.
//! Without tokens a loopback address is the protection. Then a site whose name was made to mean 127.0.0.1 would pass for
//! a page of this server, so that the `Host` must be a name of this machine, too.

use axum::http::{HeaderMap, Method, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::config::service::{Http, Role, Token};
use crate::dispatch::secret;

/// Shorter ones can be guessed.
pub const MIN_TOKEN_CHARS: usize = 16;

type Hash = [u8; 32];

/// A token by its hash: the token itself is not kept.
#[derive(Clone)]
struct Known {
    name: String,
    role: Role,
    hash: Hash,
}

#[derive(Clone, Default)]
pub struct Access {
    tokens: Vec<Known>,
    is_loopback: bool,
}

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's name; `None`: no tokens are configured.
    pub name: Option<String>,
    pub role: Role,
}

impl Access {
    /// Reads the tokens; the error names every one that cannot be had.
    pub fn new(http: &Http) -> Result<Self, Vec<String>> {
        Self::at(&http.bind, &http.tokens)
    }

    /// As `new`, for any listener.
    pub fn at(bind: &str, configured: &[Token]) -> Result<Self, Vec<String>> {
        let mut tokens = Vec::new();
        let mut errors = Vec::new();
        for token in configured {
            let name = token.name.trim().to_string();
            match secret::resolve(&token.token) {
                Ok(value) if value.chars().count() < MIN_TOKEN_CHARS => errors.push(format!(
                    "token `{name}` has fewer than {MIN_TOKEN_CHARS} characters, which can be guessed; make one with \
                     `openssl rand -hex 32`"
                )),
                Ok(value) => tokens.push(Known { name, role: token.role, hash: hash(&value) }),
                Err(error) => errors.push(format!("token `{name}`: {error}")),
            }
        }
        for (index, token) in tokens.iter().enumerate() {
            if let Some(other) = tokens[..index].iter().find(|other| other.hash == token.hash) {
                errors.push(format!("tokens `{}` and `{}` are the same; give each its own", other.name, token.name));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let (host, _) = bind.rsplit_once(':').unwrap_or((bind, ""));
        Ok(Self { tokens, is_loopback: is_loopback(host) })
    }

    /// Whether a token is needed at all.
    pub fn asks_for_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Who is asking, and whether the request may be made at all: a role is asked for where something is done.
    pub fn caller(&self, method: &Method, headers: &HeaderMap) -> Result<Caller, Problem> {
        let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let caller = self.identify(headers)?;
        if changes {
            self.same_site(headers)?;
        }
        Ok(caller)
    }

    fn identify(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        if self.tokens.is_empty() {
            let role = if self.is_loopback { Role::Admin } else { Role::Read };
            return Ok(Caller { name: None, role });
        }
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(presented);
        let Some(given) = given else {
            return Err(Problem::unauthorized(
                "a token is needed: `Authorization: Bearer TOKEN`, or in a browser any user name and the token as password",
            ));
        };
        let given = hash(&given);
        // Every token is compared, and each whole, whatever was found: time tells nothing of them.
        let mut found = None;
        for token in &self.tokens {
            if equal(&token.hash, &given) {
                found = Some(Caller { name: Some(token.name.clone()), role: token.role });
            }
        }
        found.ok_or_else(|| Problem::unauthorized("this token is not known"))
    }

    fn same_site(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(header::HOST).unwrap_or_default();
        let from_elsewhere = match (headers.get("sec-fetch-site").map(|value| value.as_bytes()), text(header::ORIGIN)) {
            (Some(site), _) => site != b"same-origin" && site != b"none",
            (None, Some(origin)) => {
                host_of_url(origin).as_deref() != Some(&name_of(host)) || port_differs(origin, host)
            }
            (None, None) => false,
        };
        if from_elsewhere {
            return Err(Problem::forbidden("this request comes from another site"));
        }
        let name = name_of(host);
        if self.tokens.is_empty() && !is_loopback(&name) {
            return Err(Problem::forbidden(format!(
                "without tokens, changes are taken from this machine alone, and `{name}` is no name of it; configure tokens"
            )));
        }
        Ok(())
    }
}

impl Caller {
    pub fn must(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role {
            return Ok(());
        }
        let word = match role {
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Admin => "admin",
        };
        Err(match &self.name {
            Some(name) => Problem::forbidden(format!("token `{name}` may not do this: it needs the role `{word}`")),
            None => Problem::forbidden(
                "changes are refused: the service listens beyond this machine and has no tokens; configure them, or use the \
                 commands",
            ),
        })
    }

    /// Who did it: the token's name, else what they call themselves.
    pub fn by(&self, called: Option<&str>) -> String {
        let called = called.map(str::trim).filter(|name| !name.is_empty());
        self.name.as_deref().or(called).unwrap_or("api").to_string()
    }
}

/// The token of `Bearer TOKEN` or `Basic base64(user:TOKEN)`.
fn presented(authorization: &str) -> Option<String> {
    let (scheme, value) = authorization.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.to_string());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    decoded.split_once(':').map(|(_, token)| token.to_string())
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

/// In the same time whatever they are.
fn equal(left: &Hash, right: &Hash) -> bool {
    left.iter().zip(right).fold(0, |different, (left, right)| different | (left ^ right)) == 0
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A `Host` without its port, in lower case.
fn name_of(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    name.to_ascii_lowercase()
}

fn authority(url: &str) -> Option<&str> {
    url.split_once("://")?.1.split(['/', '?', '#']).next()
}

fn host_of_url(url: &str) -> Option<String> {
    authority(url).map(name_of)
}

/// A proxy may be reached by another port than this server; two explicit ports must be the same.
fn port_differs(origin: &str, host: &str) -> bool {
    let port = |authority: &str| authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let origin = authority(origin).and_then(port);
    matches!((origin, port(host)), (Some(origin), Some(host)) if origin != host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::receivers::Secret;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn with_tokens() -> Access {
        let file = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            file
        };
        let (ana, grafana) = (file("ana-ana-ana-ana-ana"), file("grafana-grafana-grafana\n"));
        let token = |name: &str, role, file: &tempfile::NamedTempFile| Token {
            name: name.into(),
            role,
            token: Secret { env: None, file: Some(file.path().display().to_string()) },
        };
        let tokens = vec![token("ana", Role::Operate, &ana), token("grafana", Role::Read, &grafana)];
        Access::new(&Http { bind: "0.0.0.0:8080".into(), tokens, ..Http::default() })
            .unwrap_or_else(|_| panic!("tokens"))
    }

    #[test]
    fn a_token_is_known_as_bearer_and_as_password() {
        let access = with_tokens();
        let caller = |authorization: &str| access.caller(&Method::GET, &headers(&[("authorization", authorization)]));
        let ana = Caller { name: Some("ana".into()), role: Role::Operate };
        assert_eq!(caller("Bearer ana-ana-ana-ana-ana").unwrap(), ana);
        let basic = format!("Basic {}", STANDARD.encode("whoever:grafana-grafana-grafana"));
        let grafana = caller(&basic).unwrap();
        assert_eq!(grafana.role, Role::Read);
        assert!(grafana.must(Role::Operate).unwrap_err().detail().contains("role `operate`"));
        for wrong in ["Bearer ana", "Bearer ", "Basic xyz", "ana-ana-ana-ana-ana", "Digest ana-ana-ana-ana-ana"] {
            assert!(caller(wrong).is_err(), "{wrong}");
        }
        assert!(access.caller(&Method::GET, &HeaderMap::new()).is_err());
    }

    #[test]
    fn a_change_that_another_site_asks_for_is_refused() {
        let access = with_tokens();
        let allowed = |pairs: &[(&'static str, &str)]| {
            let all = [&[("authorization", "Bearer ana-ana-ana-ana-ana")], pairs].concat();
            access.caller(&Method::POST, &headers(&all)).is_ok()
        };
        let host = ("host", "drift.example.com:8080");
        assert!(allowed(&[host]), "no browser");
        assert!(allowed(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(!allowed(&[host, ("sec-fetch-site", "cross-site")]));
        assert!(!allowed(&[host, ("sec-fetch-site", "same-site")]));
        assert!(allowed(&[host, ("origin", "http://drift.example.com:8080")]));
        assert!(!allowed(&[host, ("origin", "http://drift.example.com:9090")]), "another server on the same machine");
        assert!(!allowed(&[host, ("origin", "https://evil.example")]));
        assert!(!allowed(&[host, ("origin", "null")]));
    }

    #[test]
    fn without_tokens_only_this_machine_changes_anything() {
        let at =
            |bind: &str| Access::new(&Http { bind: bind.into(), ..Http::default() }).unwrap_or_else(|_| panic!("none"));
        let role = |access: &Access, host: &str| {
            access.caller(&Method::POST, &headers(&[("host", host)])).map(|caller| caller.role).ok()
        };
        for bind in ["127.0.0.1:8080", "[::1]:8080", "localhost:8080"] {
            assert_eq!(role(&at(bind), "localhost:8080"), Some(Role::Admin), "{bind}");
            assert_eq!(role(&at(bind), "[::1]:8080"), Some(Role::Admin), "{bind}");
            assert_eq!(role(&at(bind), "rebound.evil.example:8080"), None, "a name made to mean this machine");
        }
        assert_eq!(role(&at("0.0.0.0:8080"), "127.0.0.1:8080"), Some(Role::Read));
        let proxied = Http { public_url: Some("https://drift.example.com".into()), ..Http::default() };
        let proxied = Access::new(&proxied).unwrap_or_else(|_| panic!("none"));
        assert_eq!(role(&proxied, "drift.example.com"), None, "whoever reaches a proxy needs a token");
    }

    #[test]
    fn a_token_that_can_be_guessed_or_is_missing_is_named() {
        let token = |name: &str, variable: &str| Token {
            name: name.into(),
            role: Role::Read,
            token: Secret { env: Some(variable.into()), file: None },
        };
        let tokens = vec![token("home", "HOME_THAT_IS_NOT_SET"), token("short", "CARGO_PKG_NAME")];
        let errors = Access::new(&Http { tokens, ..Http::default() }).err().unwrap();
        assert!(errors[0].contains("`home`") && errors[0].contains("HOME_THAT_IS_NOT_SET"), "{errors:?}");
        assert!(errors[1].contains("`short`") && errors[1].contains("openssl rand"), "{errors:?}");
        assert!(!errors[1].contains("driftline`"), "the token itself is not shown: {errors:?}");
    }
}
