//! What actions get wrong beyond their shape: several kinds at once, no cooldown, guards that cannot be read, secrets in
//! the open, addresses that would not be reached or should not be. What needs rules and models is in
//! `rules::action_checks`.

use serde_json::Value;

use super::action_guards::Guards;
use super::actions::{
    Action, ActionKind, AirflowAction, ArgoAction, GitHubAction, KubernetesAction, RollbackAction, SageMakerAction,
    WebhookAction,
};
use super::diagnostic::Problem;
use super::receiver_checks::{header, secret, topic, url};
use super::yaml::child;

pub fn action(problems: &mut Vec<Problem>, pointer: &str, name: &str, action: &Action) {
    let kinds = action.kinds();
    if kinds.len() != 1 {
        let message = format!("action `{name}` must have exactly one of {}", Action::KINDS);
        problems.push(Problem::error("action-kind", pointer, message).key());
    }
    for kind in &kinds {
        self::kind(problems, pointer, *kind);
    }
    timing(problems, pointer, name, action);
    guard(problems, pointer, action);
}

fn kind(problems: &mut Vec<Problem>, pointer: &str, kind: ActionKind<'_>) {
    match kind {
        ActionKind::Webhook(config) => webhook(problems, &format!("{pointer}/webhook"), config),
        ActionKind::Kafka(config) => topic(problems, &format!("{pointer}/kafka/topic"), &config.topic),
        ActionKind::Airflow(config) => airflow(problems, &format!("{pointer}/airflow"), config),
        ActionKind::Argo(config) => argo(problems, &format!("{pointer}/argo"), config),
        ActionKind::SageMaker(config) => sagemaker(problems, &format!("{pointer}/sagemaker"), config),
        ActionKind::GitHub(config) => github(problems, &format!("{pointer}/github"), config),
        ActionKind::Kubernetes(config) => kubernetes(problems, &format!("{pointer}/kubernetes"), config),
        ActionKind::Rollback(config) => rollback(problems, &format!("{pointer}/rollback"), config),
    }
}

fn timing(problems: &mut Vec<Problem>, pointer: &str, name: &str, action: &Action) {
    match action.cooldown {
        None => {
            let message = format!("action `{name}` has no `cooldown`: every alert could run it at once");
            let help = "add `cooldown: 72h`, the shortest time between two runs for one model";
            problems.push(Problem::error("no-cooldown", pointer, message).key().help(help));
        }
        Some(cooldown) if cooldown.ms == 0 => {
            let problem =
                Problem::error("out-of-range", format!("{pointer}/cooldown"), "a cooldown of nothing is none");
            problems.push(problem.help("write `72h`"));
        }
        Some(_) => {}
    }
    for (key, span) in [("timeout", action.timeout), ("training_data", action.training_data)] {
        if span.is_some_and(|span| span.ms == 0) {
            let message = "this time must be longer than nothing";
            problems.push(Problem::error("out-of-range", format!("{pointer}/{key}"), message).help("write `24h`"));
        }
    }
    if action.suspend_after == Some(0) {
        let message = "an action that is suspended from the start never runs";
        problems.push(
            Problem::error("out-of-range", format!("{pointer}/suspend_after"), message)
                .help("write 3, or leave it out"),
        );
    }
    if let Some(budget) = action.budget {
        if budget.max_runs == 0 {
            let message = "a budget of no runs lets none happen";
            let problem = Problem::error("out-of-range", format!("{pointer}/budget/max_runs"), message);
            problems.push(problem.help("write 4; to try an action without running it, `dry_run: true`"));
        }
        if budget.per.ms == 0 {
            let message = "a budget is for a stretch of time longer than nothing";
            problems.push(Problem::error("out-of-range", format!("{pointer}/budget/per"), message).help("write `30d`"));
        }
    }
}

fn guard(problems: &mut Vec<Problem>, pointer: &str, action: &Action) {
    let pointer = format!("{pointer}/guard");
    if let Err(errors) = Guards::read(&action.guard) {
        for error in errors {
            let problem = Problem::error("bad-guard", format!("{pointer}/{}", error.key), error.message);
            problems.push(problem.help(error.help));
        }
    }
    let rolls_back = action.rollback.is_some();
    let mut unsuited = |place: String, message: &str, help: &str| {
        problems.push(Problem::error("unsuited-key", place, message).key().help(help));
    };
    if !rolls_back && action.guard.within.is_some() && !action.kinds().is_empty() {
        let message = "`within` is a guard of a rollback: nothing is promoted before a training";
        unsuited(format!("{pointer}/within"), message, "leave it out");
    }
    if rolls_back && action.guard.new_rows.is_some() {
        unsuited(format!("{pointer}/new_rows"), "a rollback needs no new events", "leave it out");
    }
    if rolls_back && action.guard.label_coverage.is_some() {
        unsuited(format!("{pointer}/label_coverage"), "a rollback needs no labels", "leave it out");
    }
    if rolls_back && action.training_data.is_some() {
        let place = pointer.replace("/guard", "/training_data");
        unsuited(place, "a rollback trains nothing", "leave it out");
    }
    if rolls_back && action.guard.within.is_none() {
        let message = "it would roll back a version that has done well for months as soon as one alert fires";
        let problem = Problem::warning("no-within", pointer.replace("/guard", "/rollback"), message).key();
        problems.push(problem.help("add `guard: {within: 72h of promotion}`"));
    }
}

fn webhook(problems: &mut Vec<Problem>, pointer: &str, config: &WebhookAction) {
    url(problems, &format!("{pointer}/url"), &config.url, config.allow_private);
    secret(problems, &format!("{pointer}/secret"), config.secret.as_ref());
    secret(problems, &format!("{pointer}/previous_secret"), config.previous_secret.as_ref());
    for (name, value) in &config.headers {
        header(problems, &child(&format!("{pointer}/headers"), name), name, value);
    }
}

fn airflow(problems: &mut Vec<Problem>, pointer: &str, config: &AirflowAction) {
    url(problems, &format!("{pointer}/url"), &config.url, config.allow_private);
    secret(problems, &format!("{pointer}/token"), Some(&config.token));
    named(problems, &format!("{pointer}/dag"), &config.dag, "a DAG");
}

fn argo(problems: &mut Vec<Problem>, pointer: &str, config: &ArgoAction) {
    url(problems, &format!("{pointer}/url"), &config.url, config.allow_private);
    secret(problems, &format!("{pointer}/token"), Some(&config.token));
    label(problems, &format!("{pointer}/namespace"), &config.namespace);
    label(problems, &format!("{pointer}/template"), &config.template);
}

fn sagemaker(problems: &mut Vec<Problem>, pointer: &str, config: &SageMakerAction) {
    if let Some(address) = &config.url {
        url(problems, &format!("{pointer}/url"), address, config.allow_private);
    }
    secret(problems, &format!("{pointer}/access_key_id"), Some(&config.access_key_id));
    secret(problems, &format!("{pointer}/secret_access_key"), Some(&config.secret_access_key));
    secret(problems, &format!("{pointer}/session_token"), config.session_token.as_ref());
    let is_region = config.region.split('-').count() >= 3
        && config.region.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !is_region {
        let message = format!("`{}` is not a region of AWS", config.region);
        problems.push(Problem::error("bad-name", format!("{pointer}/region"), message).help("write `eu-central-1`"));
    }
    let is_name = !config.pipeline.is_empty() && config.pipeline.len() <= 2_048;
    if !is_name || config.pipeline.chars().any(char::is_whitespace) {
        let message = format!("`{}` is not the name or ARN of a pipeline", config.pipeline);
        problems.push(Problem::error("bad-name", format!("{pointer}/pipeline"), message));
    }
}

fn github(problems: &mut Vec<Problem>, pointer: &str, config: &GitHubAction) {
    if let Some(address) = &config.url {
        url(problems, &format!("{pointer}/url"), address, config.allow_private);
    }
    secret(problems, &format!("{pointer}/token"), Some(&config.token));
    let is_part = |part: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && !matches!(part, "." | "..") && part.chars().all(is_allowed)
    };
    if !config.repository.split_once('/').is_some_and(|(owner, name)| is_part(owner) && is_part(name)) {
        let message = format!("`{}` is not a repository", config.repository);
        let problem = Problem::error("bad-name", format!("{pointer}/repository"), message);
        let path = config.repository.trim_end_matches(".git").trim_end_matches('/');
        let mut parts = path.rsplit('/');
        let help = match (parts.next(), parts.next()) {
            (Some(name), Some(owner)) if is_part(name) && is_part(owner) => format!("write `{owner}/{name}`"),
            _ => "write `owner/name`".into(),
        };
        problems.push(problem.help(help));
    }
    if !is_part(&config.workflow) {
        let message = format!("`{}` is neither the file name nor the id of a workflow", config.workflow);
        let file = config.workflow.rsplit('/').next().filter(|file| is_part(file)).unwrap_or("retrain.yml");
        let problem = Problem::error("bad-name", format!("{pointer}/workflow"), message);
        problems.push(problem.help(format!("write `{file}`")));
    }
    named(problems, &format!("{pointer}/ref"), &config.ref_, "a branch or tag");
}

fn kubernetes(problems: &mut Vec<Problem>, pointer: &str, config: &KubernetesAction) {
    if let Some(address) = &config.url {
        url(problems, &format!("{pointer}/url"), address, config.allow_private);
        if config.token.is_none() {
            let message = "the service account's token is for the cluster that Driftline runs in, not for a `url`";
            let problem = Problem::error("missing-key", pointer, message).key();
            problems.push(problem.help("add `token: {file: PATH}`, or leave `url` out"));
        }
    }
    secret(problems, &format!("{pointer}/token"), config.token.as_ref());
    label(problems, &format!("{pointer}/namespace"), &config.namespace);
    let place = format!("{pointer}/job");
    let containers = config.job.pointer("/template/spec/containers").and_then(Value::as_array);
    if containers.is_none_or(Vec::is_empty) {
        let problem = Problem::error("bad-job", &place, "the Job's `spec` has no container");
        let help = "job: {template: {spec: {restartPolicy: Never, containers: [{name: train, image: IMAGE}]}}}";
        problems.push(problem.key().help(help));
        return;
    }
    let restart = config.job.pointer("/template/spec/restartPolicy").and_then(Value::as_str);
    if !matches!(restart, Some("Never" | "OnFailure")) {
        let message = "the pods of a Job have `restartPolicy: Never` or `OnFailure`";
        let problem = Problem::error("bad-job", format!("{place}/template/spec"), message).key();
        problems.push(problem.help("add `restartPolicy: Never`"));
    }
}

fn rollback(problems: &mut Vec<Problem>, pointer: &str, config: &RollbackAction) {
    // The scorer runs beside the monitor: its address may be private.
    url(problems, &format!("{pointer}/scorer"), &config.scorer, true);
    secret(problems, &format!("{pointer}/token"), config.token.as_ref());
}

/// A name that becomes one part of a path.
fn named(problems: &mut Vec<Problem>, pointer: &str, name: &str, what: &str) {
    let is_name = !name.is_empty() && name.len() <= 250 && !matches!(name, "." | "..");
    if !is_name || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        problems.push(Problem::error("bad-name", pointer, format!("`{name}` is not the name of {what}")));
    }
}

/// What Kubernetes calls an RFC 1123 subdomain, as namespaces and templates are named.
fn label(problems: &mut Vec<Problem>, pointer: &str, name: &str) {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_name = (1..=253).contains(&name.len()) && name.chars().all(is_allowed);
    if !is_name || !name.starts_with(is_end) || !name.ends_with(is_end) {
        let problem = Problem::error("bad-name", pointer, format!("`{name}` is not a name of Kubernetes"));
        let lower = name.to_lowercase().replace('_', "-");
        let would_do = lower.chars().all(is_allowed) && lower.starts_with(is_end) && lower.ends_with(is_end);
        let otherwise = "lower-case letters, digits and `-`".to_string();
        problems.push(problem.help(if would_do { format!("write `{lower}`") } else { otherwise }));
    }
}
