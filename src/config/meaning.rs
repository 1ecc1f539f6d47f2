//! What one file alone can get wrong beyond its shape.

use super::action_checks;
use super::diagnostic::Problem;
use super::literals::is_secret_property;
use super::model::{Feature, JOINT_SIGNAL, JointFeatures, Kind, MOST_DIMENSIONS, Model, OnInvalid};
use super::nearest::suggest;
use super::performance_checks;
use super::receiver_checks::{self, secret};
use super::receivers::TextOrSecret;
use super::rules::RuleFile;
use super::service::Service;
use super::token_checks;
use super::yaml::child;

pub fn service(service: &Service) -> Vec<Problem> {
    let mut problems = Vec::new();
    if service.kafka.partitions < 1 {
        problems.push(
            Problem::error("out-of-range", "/kafka/partitions", "at least one partition is needed").help("write 4"),
        );
    }
    if service.kafka.replication == 0 || service.kafka.replication < -1 {
        let message = "the replication factor is -1 (the broker's default) or at least 1";
        problems.push(Problem::error("out-of-range", "/kafka/replication", message).help("write -1"));
    }
    if service.ingest.flush_rows == 0 {
        problems.push(
            Problem::error("out-of-range", "/ingest/flush_rows", "at least one row a flush")
                .help("write 65536, or leave it out"),
        );
    }
    for (pointer, span) in [
        ("/ingest/flush_interval", service.ingest.flush_interval),
        ("/dispatch/first_retry", service.dispatch.first_retry),
        ("/dispatch/max_retry", service.dispatch.max_retry),
        ("/dispatch/expire_after", service.dispatch.expire_after),
    ] {
        if span.ms == 0 {
            let problem = Problem::error("out-of-range", pointer, "this time must be longer than nothing");
            problems.push(problem.help("write `1s`, or leave it out"));
        }
    }
    for (name, value) in &service.kafka.properties {
        let pointer = child("/kafka/properties", name);
        match value {
            TextOrSecret::Secret(source) => secret(&mut problems, &pointer, Some(source)),
            TextOrSecret::Text(_) if is_secret_property(name) => {
                let problem = Problem::error("literal-secret", pointer, format!("`{name}` holds the secret itself"));
                problems.push(
                    problem.help(
                        "write `{env: NAME}` or `{file: PATH}`, and change the secret if this file was ever shared",
                    ),
                );
            }
            TextOrSecret::Text(_) => {}
        }
    }
    for (pointer, name) in [("/app", &service.app), ("/instance", &service.instance)] {
        if !is_name(name) {
            let message =
                format!("`{name}` may hold only letters, digits, `_`, `.` and `-`: it is part of topic names");
            problems.push(Problem::error("bad-name", pointer, message));
        }
    }
    if !service.http.bind.contains(':') {
        let message = format!("`{}` is not an address", service.http.bind);
        problems.push(Problem::error("bad-address", "/http/bind", message).help("write `127.0.0.1:8080`"));
    }
    problems.extend(token_checks::tokens(&service.http.tokens));
    if let Some(smtp) = &service.smtp {
        if !smtp.url.starts_with("smtp://") && !smtp.url.starts_with("smtps://") {
            let message = format!("`{}` is not a mail server", smtp.url);
            problems.push(Problem::error("bad-url", "/smtp/url", message).help("write `smtps://mail.example.com:465`"));
        }
        if smtp.url.contains('@') {
            let problem = Problem::error("literal-secret", "/smtp/url", "`url` holds a user name or password");
            problems.push(problem.help("use `username` and `password: {env: NAME}`"));
        }
        secret(&mut problems, "/smtp/password", smtp.password.as_ref());
    }
    problems
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn version(problems: &mut Vec<Problem>, version: u32) {
    if version != 1 {
        let message = format!("version {version} of this format is not known");
        problems.push(Problem::error("bad-version", "/version", message).help("write `version: 1`"));
    }
}

pub fn model(model: &Model) -> Vec<Problem> {
    let mut problems = Vec::new();
    version(&mut problems, model.version);
    if !is_name(&model.model) {
        let message = format!("`{}` is not a model name: letters, digits, `_`, `.` and `-`", model.model);
        problems.push(Problem::error("bad-name", "/model", message));
    }
    if model.topics.is_empty() {
        problems.push(
            Problem::error("empty-list", "/topics", "a model needs at least one topic").help("topics: [predictions]"),
        );
    }
    if model.features.is_empty() {
        problems.push(
            Problem::error("empty-list", "/features", "a model needs at least one feature").help("amount: numeric"),
        );
    }
    for (name, feature) in &model.features {
        self::feature(&mut problems, &child("/features", name), name, feature);
    }
    for index in 0..model.segments.len() {
        segment(&mut problems, model, index);
    }
    for (feature, importance) in &model.importance {
        let pointer = child("/importance", feature);
        if !model.features.contains_key(feature) {
            let message = format!("`{feature}` is not a feature of this model");
            let help = suggest(feature, model.features.keys().map(String::as_str));
            problems.push(Problem::error("unknown-feature", &pointer, message).key().help_if(help));
        }
        if !(importance.is_finite() && *importance >= 0.0) {
            let message = format!("importance {importance} is not a number from 0 upward");
            problems.push(Problem::error("out-of-range", pointer, message).help("write 0 to 1, such as 0.3"));
        }
    }
    vectors(model, &mut problems);
    performance_checks::performance(model, &mut problems);
    joint(model, &mut problems);
    if model.max_segments == 0 {
        problems.push(
            Problem::error("out-of-range", "/max_segments", "at least one segment").help("write 200, or leave it out"),
        );
    }
    if model.windows.size.ms == 0 {
        problems.push(
            Problem::error("out-of-range", "/windows/size", "a window must be longer than nothing").help("write `1h`"),
        );
    }
    if model.fields.features != "*" && !model.fields.features.ends_with(".*") {
        let message = format!("`{}` does not say where features stand", model.fields.features);
        let problem = Problem::error("bad-path", "/fields/features", message);
        problems.push(problem.help("write `features.*`, or `*` for flat events"));
    }
    for (reference, source) in &model.references {
        for feature in source.columns.keys().filter(|feature| !model.features.contains_key(*feature)) {
            let of_performance = model.performance.as_ref().is_some_and(|performance| performance.has_column(feature));
            if of_performance || model.signals().iter().any(|signal| signal.name == **feature) {
                continue;
            }
            let pointer = child(&child(&child("/references", reference), "columns"), feature);
            let help = suggest(feature, model.features.keys().map(String::as_str));
            let message = format!("`{feature}` is not a feature of this model");
            problems.push(Problem::error("unknown-feature", pointer, message).key().help_if(help));
        }
    }
    problems
}

fn segment(problems: &mut Vec<Problem>, model: &Model, index: usize) {
    let pointer = format!("/segments/{index}");
    let Some(segment) = model.segments.get(index) else { return };
    let columns = segment.columns();
    for column in &columns {
        match model.features.get(*column) {
            None => {
                let message = format!("segment `{column}` is not a feature of this model");
                let help = suggest(column, model.features.keys().map(String::as_str));
                problems.push(Problem::error("unknown-segment", &pointer, message).help_if(help));
            }
            Some(feature) if feature.kind() != Kind::Categorical => {
                let kind = feature.kind().predicate();
                let message = format!("segment `{column}` is {kind}; segments are values of categorical features");
                problems.push(Problem::error("segment-not-categorical", &pointer, message));
            }
            Some(_) => {}
        }
    }
    if columns.windows(2).any(|pair| pair[0] == pair[1]) {
        let problem = Problem::error("duplicate", &pointer, format!("segment `{segment}` pairs a feature with itself"));
        problems.push(problem.help(format!("write `{}`", columns[0])));
    }
    if model.segments[..index].iter().any(|earlier| earlier.name() == segment.name()) {
        // The name of a pair cannot be that of a column unless the column's own name holds a comma.
        problems.push(Problem::error("duplicate", &pointer, format!("segment `{segment}` stands here twice")));
    }
}

fn feature(problems: &mut Vec<Problem>, pointer: &str, name: &str, feature: &Feature) {
    if let Some((min, max)) = feature.range() {
        let pointer = format!("{pointer}/range");
        if feature.kind() != Kind::Numeric {
            let message = format!("`{name}` is {}: it has no range", feature.kind().predicate());
            problems.push(Problem::error("unsuited-key", pointer, message).key());
        } else if min > max {
            let message = format!("the range of `{name}` is empty: {min} is above {max}");
            problems.push(Problem::error("out-of-range", pointer, message).help(format!("write `[{max}, {min}]`")));
        }
    }
    if feature.required() && feature.on_invalid() == Some(OnInvalid::Missing) {
        let message = format!("`{name}` is required, so an invalid value cannot count as a missing one");
        let problem = Problem::error("contradiction", format!("{pointer}/on_invalid"), message);
        problems.push(problem.help("leave out `required` or `on_invalid`"));
    }
}

fn vectors(model: &Model, problems: &mut Vec<Problem>) {
    for (name, feature) in &model.features {
        let pointer = child("/features", name);
        let dimension = match feature {
            Feature::Kind(_) => None,
            Feature::Full(spec) => spec.dimension,
        };
        match (feature.kind(), dimension) {
            (Kind::Vector, None) => {
                let message = format!("vector `{name}` has no `dimension`");
                problems.push(Problem::error("missing-key", pointer, message).help("{type: vector, dimension: 384}"));
            }
            (Kind::Vector, Some(dimension)) if !(1..=MOST_DIMENSIONS).contains(&(dimension as usize)) => {
                let message = format!("a vector has 1 to {MOST_DIMENSIONS} numbers, not {dimension}");
                let problem = Problem::error("out-of-range", format!("{pointer}/dimension"), message);
                problems.push(problem.help("reduce it before it is written, or watch a part of it"));
            }
            (Kind::Numeric | Kind::Categorical, Some(_)) => {
                let message = format!("`{name}` is {}: only a vector has a dimension", feature.kind().predicate());
                let problem = Problem::error("no-vector", format!("{pointer}/dimension"), message);
                problems.push(problem.key().help("write `type: vector`, or take `dimension` out"));
            }
            _ => {}
        }
    }
    for (key, column) in [("prediction", &model.prediction), ("score", &model.score)] {
        if column.as_ref().is_some_and(|column| column.kind == Kind::Vector) {
            let message = format!("`{key}` cannot be a vector");
            problems.push(
                Problem::error("no-vector", format!("/{key}/type"), message).help("list the vector under `features:`"),
            );
        }
    }
}

fn joint(model: &Model, problems: &mut Vec<Problem>) {
    let Some(joint) = &model.joint else { return };
    if model.features.contains_key(JOINT_SIGNAL) {
        let message = format!("a feature is named `{JOINT_SIGNAL}`, as the joint signal is");
        problems.push(
            Problem::error("duplicate", child("/features", JOINT_SIGNAL), message)
                .key()
                .help("name the feature otherwise and give its `path`"),
        );
    }
    let pointer = "/joint/features";
    let members = match &joint.features {
        JointFeatures::Word(word) if word == "all" => {
            model.features.values().filter(|feature| feature.kind() == Kind::Numeric).count()
        }
        JointFeatures::Word(word) => {
            let message = format!("`{word}` is neither `all` nor a list of features");
            problems.push(Problem::error("bad-joint", pointer, message).help("write `all`, or `[amount, age]`"));
            return;
        }
        JointFeatures::Names(names) => {
            for (index, name) in names.iter().enumerate() {
                let place = format!("{pointer}/{index}");
                match model.features.get(name) {
                    None => {
                        let help = suggest(name, model.features.keys().map(String::as_str));
                        let message = format!("`{name}` is not a feature of this model");
                        problems.push(Problem::error("unknown-feature", place, message).help_if(help));
                    }
                    Some(feature) if feature.kind() != Kind::Numeric => {
                        let message =
                            format!("`{name}` is {}; a joint signal has numeric features", feature.kind().predicate());
                        problems.push(Problem::error("bad-joint", place, message));
                    }
                    Some(_) if names[..index].contains(name) => {
                        problems.push(Problem::error("duplicate", place, format!("`{name}` stands here twice")));
                    }
                    Some(_) => {}
                }
            }
            names.len()
        }
    };
    if !(2..=MOST_DIMENSIONS).contains(&members) {
        let message = format!("a joint signal has 2 to {MOST_DIMENSIONS} numeric features, not {members}");
        problems.push(Problem::error("bad-joint", pointer, message));
    }
}

pub fn rules(file: &RuleFile) -> Vec<Problem> {
    let mut problems = Vec::new();
    version(&mut problems, file.version);
    for (name, receiver) in &file.receivers {
        receiver_checks::receiver(&mut problems, &child("/receivers", name), name, receiver);
    }
    for (name, action) in &file.actions {
        action_checks::action(&mut problems, &child("/actions", name), name, action);
    }
    problems
}
