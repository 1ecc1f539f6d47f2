//! A rollback of the scorer, by its admin API: compare-and-swap on what its registry has in production.
//!
//! The registry is asked before a rollback is decided, and what it answered goes with the call, so that a promotion in
//! between is never undone. docs/retraining.md has the two requests in full.

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::guard::Registry;
use super::http_call::{HttpCall, bearer, text_at};
use super::run::RunRecord;
use super::target::{CallOutcome, Progress, Target, TargetError};
use crate::config::actions::{RollbackAction, RollbackTo};
use crate::config::receivers::Secret;

pub struct RollbackTarget {
    api: HttpCall,
    to: RollbackTo,
    token: Option<Secret>,
}

impl RollbackTarget {
    pub fn new(action: &str, config: &RollbackAction) -> Result<Self, TargetError> {
        if let Some(token) = &config.token {
            bearer(token).map_err(|reason| TargetError::new(action, reason))?;
        }
        // The scorer runs beside the monitor: its address is private as a rule.
        let api = HttpCall::new(action, &config.scorer, true, None)?;
        Ok(Self { api, to: config.to, token: config.token.clone() })
    }

    fn headers(&self) -> Result<HeaderMap, String> {
        self.token.as_ref().map_or_else(|| Ok(HeaderMap::new()), bearer)
    }

    async fn try_call(&self, run: &RunRecord) -> Result<CallOutcome, CallOutcome> {
        let Some(expected) = &run.expected else {
            return Err(CallOutcome::permanent("it is not known what was in production"));
        };
        let mut headers = self.headers().map_err(|reason| CallOutcome::Retry { reason, after_ms: None })?;
        let key = HeaderValue::from_str(&run.name())
            .map_err(|_| CallOutcome::permanent("the run's name does not fit into a header"))?;
        headers.insert("idempotency-key", key);
        let body = json!({
            "to": self.to,
            "expected": {"production": expected.production, "generation": expected.generation},
            "reason": run.request.summary,
            "run": run.run,
        });
        let url = self.api.url(&["admin", "v1", "models", &run.request.model, "rollback"]);
        let answer = self.api.post(url, headers, &body).await?;
        Ok(match answer.status {
            200 => {
                let now = answer.text("/production").unwrap_or("an earlier version");
                CallOutcome::Done { message: format!("{} is in production, not {}", now, expected.production) }
            }
            409 => CallOutcome::permanent(format!(
                "the registry has changed since it was asked, so nothing was rolled back; {}",
                answer.describe()
            )),
            _ => answer.failure(),
        })
    }

    async fn try_registry(&self, run: &RunRecord) -> Result<Registry, Progress> {
        let headers = self.headers().map_err(|reason| Progress::Unknown { reason })?;
        let body = self.api.get(self.api.url(&["admin", "v1", "models", &run.request.model]), headers).await?;
        let Some(generation) = body.get("generation").and_then(Value::as_u64) else {
            return Err(Progress::Unknown { reason: "the scorer's answer has no `generation`".into() });
        };
        Ok(Registry {
            production: text_at(&body, "/production").map(str::to_string),
            previous: text_at(&body, "/previous").map(str::to_string),
            generation,
            promoted_at_ms: body.get("promoted_at_ms").and_then(Value::as_i64),
        })
    }
}

#[async_trait]
impl Target for RollbackTarget {
    async fn call(&self, run: &RunRecord) -> CallOutcome {
        self.try_call(run).await.unwrap_or_else(|failed| failed)
    }

    async fn registry(&self, run: &RunRecord) -> Result<Registry, String> {
        self.try_registry(run).await.map_err(|unknown| match unknown {
            Progress::Unknown { reason } | Progress::Failed { reason } => reason,
            Progress::Running | Progress::Succeeded { .. } => "no answer".into(),
        })
    }
}
