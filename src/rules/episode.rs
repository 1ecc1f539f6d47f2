//! An episode: one alert from its first breaching window to its recovery, and the notifications it sends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::explanation::{Explanation, Moved};
use super::performance::PerformanceFinding;
use super::suppression::Suppression;
use crate::config::matcher::Subject;
use crate::config::rules::Severity;
use crate::stats::metric::MetricValue;
use crate::windows::result::{Segment, Window};

/// Where an episode stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EpisodeStatus {
    Firing,
    Resolved,
}

/// One feature (or the whole window) that breaches a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// `None` for rules about the window as a whole (`row_count`, `share(...)`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    #[serde(default, skip_serializing_if = "Segment::is_all")]
    pub segment: Segment,
    pub severity: Severity,
    /// The metric that decided, as in the rule: `psi`.
    pub metric: String,
    pub value: MetricValue,
    /// The expression that held: `psi > 0.25`.
    pub condition: String,
    /// What `auto` stood for in this window, in the metric's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// PSI where another metric of the distribution decided: how large the change is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect_psi: Option<f64>,
    /// Probability of this under no drift, before and after the correction for the number of questions asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_adjusted: Option<f64>,
    /// Variance of windows over that of independent draws, learned from the reference's own windows; absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inflation: Option<f64>,
    /// Non-missing values in the window and in the reference.
    pub n: u64,
    pub n_reference: u64,
    /// Of `signal: performance`: what the figure rests on, and what it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance: Option<PerformanceFinding>,
    /// The bins or categories that moved most, largest first, at most five.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<Moved>,
    /// How the middle moved, and where the drift is worst.
    #[serde(default, skip_serializing_if = "Explanation::is_empty")]
    pub explanation: Explanation,
    /// The sentence people read: "`amount`: PSI 0.41 against training, 2 of 2 windows, 10 240 events, adjusted p < 1e-6".
    pub reason: String,
}

impl Finding {
    /// What findings of one severity are ordered by, the largest first: drift times importance where that is known; of
    /// performance, which is worse below its baseline or above it, how far it lies from it.
    pub fn weight(&self) -> Option<f64> {
        let from_baseline = self.performance.as_ref().and_then(|performance| performance.difference?.value);
        self.explanation.priority.or(from_baseline.map(f64::abs)).or(self.value.value)
    }
}

/// A change of an episode that people are told: one record of the `outbox` topic, keyed by `episode_id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Notification {
    /// `{episode_id}-{sequence}`: the same however often it is derived or sent.
    pub id: String,
    /// Hash of rule, model, version, group and first breaching window.
    pub episode_id: String,
    /// 0 for the first notification of the episode, then one more each.
    pub sequence: u32,
    pub status: EpisodeStatus,
    pub severity: Severity,
    pub rule: String,
    pub model: String,
    pub version: String,
    #[serde(default, skip_serializing_if = "Segment::is_all")]
    pub segment: Segment,
    /// Set where the rule groups by feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// One line: "feature-drift critical: fraud@3, `amount` PSI 0.41", or what the rule's `summary` makes of it.
    pub summary: String,
    /// What the rule's `description` and `runbook` make of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    pub findings: Vec<Finding>,
    /// Name of the reference compared with.
    pub reference: String,
    pub reference_id: String,
    /// First breaching window, and the window that caused this notification.
    pub first_window: Window,
    pub window: Window,
    /// Windows that breached and windows looked at, as in "2 of 2 windows".
    pub windows_breached: u32,
    pub windows_considered: u32,
    /// Events in `window`.
    pub rows: u64,
    /// Wall clock of the log when the window closed, epoch milliseconds.
    pub at_ms: i64,
    /// Names of receivers, from the routes; none where the alert is suppressed: nobody is told, pages show it.
    pub receivers: Vec<String>,
    /// Why nobody is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<Suppression>,
    /// Names of the actions that the episode asks for; each has a record of its own in the outbox, an `ActionRequest`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
}

impl Notification {
    /// As matchers of routes and silences see it.
    pub fn subject(&self) -> Subject<'_> {
        let mut features: Vec<&str> = self.feature.iter().map(String::as_str).collect();
        let mut segments: Vec<String> = Vec::new();
        for finding in &self.findings {
            features.extend(finding.feature.as_deref().filter(|feature| !features.contains(feature)));
            let segment = finding.segment.to_string();
            if self.segment.is_all() && !segments.contains(&segment) {
                segments.push(segment);
            }
        }
        if segments.is_empty() {
            segments.push(self.segment.to_string());
        }
        Subject {
            rule: &self.rule,
            model: &self.model,
            version: &self.version,
            severity: self.severity,
            features,
            segments,
        }
    }
}
