//! The words of `driftline alerts explain`.

use super::explain::{Explained, Subject, severities};
use super::show::{delivery_line, plain};
use crate::cli::operate::ledger::{Ledger, acknowledgement};
use crate::cli::operate::{Desk, Outcome};
use crate::http::metrics::severity_name;
use crate::http::wording;
use crate::rules::gates::{ConditionGate, Gates, Muted, PairGates};
use crate::rules::state::{Mute, Phase};
use crate::rules::{RuleState, Workspace};

/// Pairs of a window that are told of; the others are counted.
const MOST_PAIRS: usize = 5;
/// Groups that are told of.
const MOST_STATES: usize = 10;

pub fn print(
    desk: &mut Desk<'_>,
    workspace: &Workspace,
    ledger: &Ledger,
    subject: &Subject<'_>,
    explained: &[Explained],
    states: &[&RuleState],
) -> Outcome {
    let rule = subject.rule;
    let words = subject.words();
    let about = if words.is_empty() { String::new() } else { format!(" ({words})") };
    writeln!(desk.out, "rule {}{about}", rule.name)?;
    for (name, expression) in [("warn", &rule.warn), ("critical", &rule.critical), ("recover", &rule.recover)] {
        if let Some(expression) = expression {
            writeln!(desk.out, "  {name:<9} {}", expression.text)?;
        }
    }
    match &rule.absent {
        Some(absent) => {
            writeln!(
                desk.out,
                "  absent    after {}, by the clock of the log; windows say nothing of it",
                absent.after
            )?;
        }
        None => {
            let persistence = rule.persistence;
            writeln!(desk.out, "  for       {} of {} windows", persistence.needed, persistence.of)?;
        }
    }
    if explained.is_empty() && rule.absent.is_none() {
        writeln!(
            desk.out,
            "\nno window of it is in `{}`: none has closed, or they are older than the topic keeps",
            desk.topics.results
        )?;
    }
    for one in explained {
        writeln!(desk.out, "\n{}@{}", one.model, one.version)?;
        for (window, revision, gates) in &one.windows {
            let revised = if *revision > 0 { format!(", revision {revision}") } else { String::new() };
            writeln!(desk.out, "  {} UTC{revised}", wording::window(window.start_ms, window.end_ms))?;
            for line in window_lines(subject, gates) {
                writeln!(desk.out, "    {line}")?;
            }
        }
    }
    writeln!(desk.out, "\nwhere it stands")?;
    if states.is_empty() {
        writeln!(desk.out, "  inactive: no window has ever breached")?;
    }
    for state in states.iter().take(MOST_STATES) {
        stand(desk, ledger, subject, state)?;
    }
    if states.len() > MOST_STATES {
        let more = states.len() - MOST_STATES;
        writeln!(desk.out, "  {more} more groups; narrow it down with --model, --segment or --feature")?;
    }
    writeln!(desk.out, "\nwho is told")?;
    told(desk, workspace, ledger, subject)
}

fn window_lines(subject: &Subject<'_>, gates: &Gates) -> Vec<String> {
    if gates.no_reference {
        return vec!["not judged: the window has no result against the rule's reference".into()];
    }
    let mut lines: Vec<String> = gates.muted.iter().map(muted_line).collect();
    let mut pairs: Vec<&PairGates> = gates.pairs.iter().filter(|pair| subject.wants(pair)).collect();
    let rank = |pair: &PairGates| {
        let held = pair.conditions.iter().any(|gate| gate.asked.holds == Some(true));
        let p = pair.conditions.iter().filter_map(|gate| gate.asked.p_adjusted).fold(1.0, f64::min);
        (pair.breach.is_none(), !held, (p * 1e12) as u64, pair.pair.clone())
    };
    pairs.sort_by_key(|pair| rank(pair));
    let breaching = pairs.iter().filter(|pair| pair.breach.is_some()).count();
    if pairs.len() > 1 {
        lines.push(format!("{breaching} of {} breach", pairs.len()));
    }
    lines.extend(pairs.iter().take(MOST_PAIRS).map(|pair| pair_line(pair)));
    if pairs.len() > MOST_PAIRS {
        lines.push(format!("{} more; `--feature NAME` shows one", pairs.len() - MOST_PAIRS));
    }
    if lines.is_empty() {
        lines.push("the rule looks at nothing in it: no such segment or feature".into());
    }
    lines
}

fn muted_line(muted: &Muted) -> String {
    let who = if muted.segment.is_all() { String::new() } else { format!("{}: ", muted.segment) };
    let samples = &muted.samples;
    let why = match muted.mute {
        Mute::InsufficientSamples => {
            format!("{} samples, min_samples is {}", wording::count(samples.has), wording::count(samples.needs))
        }
        Mute::Incomplete => "events are known to be missing (incomplete)".into(),
        Mute::NoReference => {
            let why = samples.wanting.as_ref().map_or_else(String::new, |wanting| format!(": {wanting}"));
            format!("its reference has too little to compare with{why}")
        }
        Mute::InsufficientLabels => match samples.label_coverage {
            Some((has, needs)) => {
                format!("{} of its labels are known, min_coverage is {}", wording::share(has), wording::share(needs))
            }
            None => "too few of its labels are known".into(),
        },
        other => other.word().replace('_', " "),
    };
    format!("{who}not judged: {why}")
}

fn pair_line(pair: &PairGates) -> String {
    let mut who = pair.pair.feature.clone().unwrap_or_else(|| "the window".into());
    if !pair.pair.segment.is_all() {
        who = format!("{} {who}", pair.pair.segment);
    }
    let value = pair.value.value.map_or_else(|| "undefined".to_string(), wording::figure);
    let gates: Vec<String> = pair.conditions.iter().map(condition_words).collect();
    let verdict = match (pair.breach, pair.unrecovered) {
        (Some(severity), _) => format!("breaches, {}", severity_name(severity)),
        (None, true) => "does not breach, and has not recovered".into(),
        (None, false) => "does not breach".into(),
    };
    let samples = format!("{} samples", wording::count(pair.samples.has));
    format!("{who}: {} {value}, {samples}; {}: {verdict}", pair.metric, gates.join("; "))
}

/// `warn psi > 0.1 holds, adjusted p 0.3 is above alpha 0.01`.
fn condition_words(gate: &ConditionGate) -> String {
    let (severity, condition) = (severity_name(gate.severity), &gate.condition);
    let holds = match gate.asked.holds {
        Some(true) => "holds",
        Some(false) => return format!("{severity} {condition} does not hold"),
        None => return format!("{severity} {condition} cannot be told: a value is undefined"),
    };
    let chance = match gate.asked.p_adjusted {
        None => "; no test applies".to_string(),
        Some(p) => {
            let side = if p <= gate.asked.alpha { "within" } else { "above" };
            format!(", adjusted p {} is {side} alpha {}", wording::probability(p), wording::figure(gate.asked.alpha))
        }
    };
    format!("{severity} {condition} {holds}{chance}")
}

fn stand(desk: &mut Desk<'_>, ledger: &Ledger, subject: &Subject<'_>, state: &RuleState) -> Outcome {
    let standing = state.standing(subject.rule.persistence);
    let mut who = state.model.clone();
    if let Some(version) = &state.version {
        who.push_str(&format!("@{version}"));
    }
    if !state.segment.is_all() {
        who.push_str(&format!(" {}", state.segment));
    }
    if let Some(feature) = &state.feature {
        who.push_str(&format!(" {feature}"));
    }
    let needed = subject.rule.persistence.needed;
    let (breached, considered) = (standing.windows_breached, standing.windows_considered);
    let phase = match standing.phase {
        Phase::Inactive => "inactive".to_string(),
        Phase::Pending => format!("pending: {breached} of the last {considered} windows breached, {needed} are needed"),
        Phase::Firing { severity, first } => {
            format!("firing, {}, since {} UTC", severity_name(severity), wording::minute(first.start_ms))
        }
        Phase::Recovering { severity, clear_windows, .. } => {
            format!("recovering from {}: clear for {clear_windows} of {needed} windows", severity_name(severity))
        }
    };
    writeln!(desk.out, "  {who}: {phase}")?;
    if let Some(mute) = state.muted {
        writeln!(desk.out, "    the last window was not judged: {}", mute.word().replace('_', " "))?;
    }
    if let Some(suppression) = &state.suppressed {
        let (by, name, since) = (suppression.by.word(), &suppression.name, wording::minute(suppression.since_ms));
        writeln!(desk.out, "    kept quiet by {by} `{name}` since {since} UTC: nobody is told")?;
    }
    let Some(told) = state.told.as_ref().filter(|told| told.firing) else { return Ok(()) };
    writeln!(desk.out, "    alert {}: driftline alerts show {}", told.episode_id, told.episode_id)?;
    if let Some(held) = ledger.control.acknowledged(&told.episode_id, desk.now_ms) {
        writeln!(desk.out, "    acknowledged {}", acknowledgement(held))?;
    }
    let silence = ledger.last(&told.episode_id).and_then(|last| ledger.control.silenced_by(last, desk.now_ms));
    if let Some(silence) = silence {
        let until = wording::minute(silence.until_ms);
        writeln!(desk.out, "    held back by silence {} until {until} UTC: {}", silence.id, silence.reason)?;
    }
    Ok(())
}

/// Routes by severity; of an alert, what was sent and what came of it.
fn told(desk: &mut Desk<'_>, workspace: &Workspace, ledger: &Ledger, subject: &Subject<'_>) -> Outcome {
    let rule = subject.rule;
    for severity in severities(rule) {
        let models = workspace.models.iter().filter(|model| rule.matches_model(&model.model));
        for model in models.filter(|model| subject.alert.as_ref().is_none_or(|alert| alert.model == model.model)) {
            let receivers = workspace.rules.receivers_of(&rule.name, &model.model, severity);
            let to = if receivers.is_empty() { "nobody: no route matches".into() } else { receivers.join(", ") };
            writeln!(desk.out, "  {} at {}: {to}", model.model, severity_name(severity))?;
        }
    }
    let Some(alert) = &subject.alert else { return Ok(()) };
    for notification in ledger.notifications(&alert.id) {
        writeln!(desk.out, "  {}  {}", wording::minute(notification.at_ms), plain(&notification.summary))?;
        if let Some(suppression) = &notification.suppressed {
            writeln!(desk.out, "    told to nobody: kept quiet by {} `{}`", suppression.by.word(), suppression.name)?;
            continue;
        }
        if notification.receivers.is_empty() {
            writeln!(desk.out, "    told to nobody: no route matches it")?;
        }
        let mut heard: Vec<&str> = Vec::new();
        for delivery in ledger.deliveries(&notification.id) {
            heard.push(&delivery.receiver);
            writeln!(desk.out, "    {}", delivery_line(delivery, desk.now_ms))?;
        }
        for receiver in notification.receivers.iter().filter(|receiver| !heard.contains(&receiver.as_str())) {
            writeln!(desk.out, "    {receiver}: not sent yet; is a process with the role `dispatch` running?")?;
        }
    }
    Ok(())
}
