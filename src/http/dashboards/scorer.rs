//! Scorer: what it answers and how fast, which versions serve, what the canary and the shadow do, where events go.
//!
//! These metrics are the scorer's own; it is scraped by itself, at its admin address.

use serde_json::Value;

use super::{Drawing, Panel, Row, Variable, dashboard as build};

const MODEL: &str = "label_values(driftline_scorer_generation, model)";

pub fn dashboard() -> Value {
    build(
        "driftline-scorer",
        "Driftline / Scorer",
        "Scores: how many and how fast, which version gives them, and the events that tell of them.",
        &[Variable { name: "model", label: "Model", query: MODEL, many: true }],
        vec![
            Row { title: "Answers", panels: answers() },
            Row { title: "Versions", panels: versions() },
            Row { title: "Shadow and canary", panels: trials() },
            Row { title: "Queues and workers", panels: queues() },
            Row { title: "Events", panels: events() },
            Row { title: "Server", panels: server() },
            Row { title: "Servers that compute", panels: elsewhere() },
        ],
    )
}

fn rate(by: &str, metric: &str) -> String {
    format!("sum by ({by}) (rate(driftline_scorer_{metric}{{model=~\"$model\"}}[$__rate_interval]))")
}

fn quantile(quantile: f64) -> String {
    format!("histogram_quantile({quantile}, {})", rate("le, model, version", "request_seconds_bucket"))
}

fn answers() -> Vec<Panel> {
    vec![
        Panel::lines("Requests", "A second, by version and arm. The versions' parts are what the traffic policy gave them.")
            .query("{{model}}@{{version}} {{arm}}", rate("model, version, arm", "requests_total")),
        Panel::lines(
            "Not answered",
            "A second, by code. `queue_full`: more came than the workers score. `expired`: the deadline passed before. \
             `failed`: the model or its runtime did.",
        )
        .query(
            "{{model}}@{{version}} {{code}}",
            "sum by (model, version, code) (rate(driftline_scorer_requests_total{model=~\"$model\", code!=\"ok\"}[$__rate_interval]))",
        ),
        Panel::lines("Latency", "From a request's last byte to its last score; median and 99th percentile.")
            .unit("s")
            .query("{{model}}@{{version}} 50%", quantile(0.5))
            .query("{{model}}@{{version}} 99%", quantile(0.99)),
        Panel::lines("Rows", "Scored a second; more than requests where these have several rows.")
            .query("{{model}}@{{version}}", rate("model, version", "rows_total")),
    ]
}

fn versions() -> Vec<Panel> {
    vec![
        Panel::lines("Share of the canary", "Of the requests, as the registry's state says; 0 without a canary.")
            .unit("percentunit")
            .query("{{model}}", "max by (model) (driftline_scorer_canary_ratio{model=~\"$model\"})"),
        Panel::lines("Generation", "Each step is a change: a promotion, a rollback, a canary's step, a shadow.")
            .query("{{model}}", "max by (model) (driftline_scorer_generation{model=~\"$model\"})"),
        Panel::lines("In memory", "Versions that could answer at once: production, the one before, canary, shadow.")
            .query("{{model}}@{{version}}", "sum by (model, version) (driftline_scorer_loaded_versions{model=~\"$model\"})"),
        Panel::lines("Loads", "An hour, by outcome. A version that fails to load changes nothing that serves.")
            .query(
                "{{model}} {{outcome}}",
                "3600 * sum by (model, outcome) (rate(driftline_scorer_loads_total{model=~\"$model\"}[$__rate_interval]))",
            )
            .query(
                "seconds a load, mean since the start",
                "sum(driftline_scorer_load_seconds_sum) / sum(driftline_scorer_load_seconds_count)",
            ),
    ]
}

fn trials() -> Vec<Panel> {
    let of_model = |metric: &str| format!("driftline_scorer_{metric}{{model=~\"$model\"}}");
    vec![
        Panel::lines("Shadow", "Requests a second that were scored by the shadow too, failed there, or were dropped.")
            .query("{{model}}@{{version}} {{outcome}}", rate("model, version, outcome", "shadow_requests_total")),
        Panel::lines(
            "Shadow against production",
            "By how much the shadow's score of a row differs: 99 of 100 rows differ by less than the first, one did by the \
             second since the start.",
        )
        .query(
            "{{model}}@{{version}} 99%",
            format!("histogram_quantile(0.99, {})", rate("le, model, version", "shadow_difference_bucket")),
        )
        .query(
            "{{model}}@{{version}} largest",
            format!("max by (model, version) ({})", of_model("shadow_difference_max")),
        ),
        Panel::lines("Rows that differ", "A second: by more than `shadow.tolerance`.")
            .query(
                "{{model}}@{{version}}",
                format!(
                    "{} or 0 * {}",
                    rate("model, version", "shadow_differences_total"),
                    rate("model, version", "shadow_difference_count")
                ),
            ),
        Panel::lines(
            "Evidence against the canary",
            "By guard: 1 rolls back. It moves up where the canary is worse and down where it is not; looking often costs \
             nothing.",
        )
        .query("{{model}} {{guard}}", format!("max by (model, guard) ({})", of_model("trial_evidence_ratio")))
        .level("rolls back", "vector(1)"),
        Panel::lines(
            "Requests until the next step",
            "That the canary has yet to answer before its trial can go on; -1: it cannot be told.",
        )
        .query("{{model}}", format!("max by (model) ({})", of_model("trial_requests_needed"))),
        Panel::lines("Turns of the trial", "An hour, by verdict. `not_decided` is an answer: more requests are needed.")
            .query("{{model}} {{verdict}}", format!("3600 * {}", rate("model, verdict", "trial_decisions_total"))),
    ]
}

fn queues() -> Vec<Panel> {
    let now = |metric: &str| format!("sum by (model, version) (driftline_scorer_{metric}{{model=~\"$model\"}})");
    vec![
        Panel::lines("Waiting", "Requests and rows that wait for a worker now.")
            .query("{{model}}@{{version}} requests", now("queue_requests"))
            .query("{{model}}@{{version}} rows", now("queue_rows")),
        Panel::lines(
            "Busy workers",
            "Share of the time that the threads of a version compute. Near 1, requests wait: give it more `workers`, or the \
             scorer more cores.",
        )
        .unit("percentunit")
        .query(
            "{{model}}@{{version}}",
            format!("{} / {}", rate("model, version", "busy_seconds_total"), now("workers")),
        ),
        Panel::lines("Rows of a batch", "Median and 99th percentile: what is put together while workers are busy.")
            .query(
                "{{model}}@{{version}} 50%",
                format!("histogram_quantile(0.5, {})", rate("le, model, version", "batch_rows_bucket")),
            )
            .query(
                "{{model}}@{{version}} 99%",
                format!("histogram_quantile(0.99, {})", rate("le, model, version", "batch_rows_bucket")),
            ),
        Panel::lines(
            "Turned away",
            "Requests a second that were refused because the queue was full, or dropped because their deadline passed or \
             their caller was gone; and batches that failed and were computed again in halves.",
        )
        .query("{{model}}@{{version}} refused", rate("model, version", "queue_refused_total"))
        .query("{{model}}@{{version}} dropped", rate("model, version", "queue_dropped_total"))
        .query("{{model}}@{{version}} halved", rate("model, version", "split_batches_total")),
    ]
}

fn events() -> Vec<Panel> {
    let counted = |name: &str| rate("model", &format!("events_{name}_total"));
    vec![
        Panel::lines(
            "Events",
            "A second. Offered are those taken and those dropped; taken are those sent, failed and in flight. `dropped`: \
             the queue was full, as a rule because the broker is away.",
        )
        .query("{{model}} offered", counted("offered"))
        .query("{{model}} taken", counted("enqueued"))
        .query("{{model}} sent", counted("sent"))
        .query("{{model}} dropped", counted("dropped"))
        .query("{{model}} failed", counted("failed"))
        .query("{{model}} sampled out", counted("sampled_out")),
        Panel::lines("On their way", "Events taken that are neither sent nor failed yet.")
            .query("{{model}} events", "sum by (model) (driftline_scorer_events_in_flight{model=~\"$model\"})")
    ]
}

fn server() -> Vec<Panel> {
    vec![
        Panel::lines("HTTP", "Answers a second, by protocol and status.").query(
            "{{protocol}} {{status}}",
            "sum by (protocol, status) (rate(driftline_scorer_http_responses_total[$__rate_interval]))",
        ),
        Panel::lines(
            "Connections",
            "Open ones, and those closed a minute because there were too many or they were slow.",
        )
        .query("open", "sum(driftline_scorer_http_connections)")
        .query(
            "{{reason}}",
            "60 * sum by (reason) (rate(driftline_scorer_http_connections_refused_total[$__rate_interval]))",
        ),
        Panel::lines("Memory", "Resident, and the parts that bodies of requests and events on their way take.")
            .unit("bytes")
            .query("{{instance}}", "driftline_scorer_process_resident_memory_bytes")
            .query("{{instance}} bodies", "driftline_scorer_http_body_bytes")
            .query("{{instance}} events", "driftline_scorer_events_queue_bytes"),
        Panel::lines("CPU", "Cores in use.")
            .query("{{instance}}", "rate(driftline_scorer_process_cpu_seconds_total[$__rate_interval])"),
        Panel::lines("gRPC", "Calls a second, by service and code.").query(
            "{{service}} {{code}}",
            "sum by (service, code) (rate(driftline_scorer_grpc_responses_total[$__rate_interval]))",
        ),
        Panel::lines("gRPC connections", "Open ones, and those closed a minute because there were too many.")
            .query("open", "sum(driftline_scorer_grpc_connections)")
            .query("too many", "60 * sum(rate(driftline_scorer_grpc_connections_refused_total[$__rate_interval]))"),
        Panel::new(Drawing::Stat, "Up since", "Start of the process.")
            .unit("dateTimeAsIso")
            .query("started", "1000 * max(driftline_scorer_process_start_time_seconds)"),
    ]
}

fn elsewhere() -> Vec<Panel> {
    let state =
        |metric: &str| format!("max by (model, version) (driftline_scorer_proxy_{metric}{{model=~\"$model\"}})");
    vec![
        Panel::lines("Requests to other servers", "A second, by what came of them.")
            .query("{{model}}@{{version}} {{outcome}}", rate("model, version, outcome", "proxy_requests_total")),
        Panel::lines("Time of their answers", "99th percentile.").unit("s").query(
            "{{model}}@{{version}} 99%",
            format!("histogram_quantile(0.99, {})", rate("le, model, version", "proxy_request_seconds_bucket")),
        ),
        Panel::lines(
            "State of other servers",
            "Ready: 1 while the server says so. Left alone: 1 after failures in a row.",
        )
        .query("{{model}}@{{version}} ready", state("ready"))
        .query("{{model}}@{{version}} left alone", state("circuit_open")),
    ]
}
