//! `driftline deliveries retry`.

use clap::Args;
use serde_json::json;

use super::show::find;
use crate::cli::operate::ledger::Ledger;
use crate::cli::operate::{By, Desk, Failure, Outcome};
use crate::dispatch::control::Command;
use crate::dispatch::delivery::DeliveryRecord;

#[derive(Debug, Clone, Args)]
pub struct RetryArgs {
    /// Id of the notification
    pub notification: String,
    /// To this receiver; default: to each that it was not delivered to
    #[arg(long, value_name = "NAME")]
    pub receiver: Option<String>,
    #[command(flatten)]
    pub by: By,
}

pub fn run(desk: &mut Desk<'_>, args: &RetryArgs, json: bool) -> Outcome {
    let by = args.by.name()?;
    let ledger = Ledger::read(desk)?;
    let found = find(&ledger, &args.notification)?;
    let [notification] = found.as_slice() else {
        let ids: Vec<String> = found.iter().map(|notification| format!("`{}`", notification.id)).collect();
        return Err(Failure::usage(format!("which notification? The alert has {}", ids.join(", "))));
    };
    let deliveries: Vec<&DeliveryRecord> = ledger.deliveries(&notification.id).collect();
    let known: Vec<&str> = deliveries.iter().map(|delivery| delivery.receiver.as_str()).collect();
    let receivers: Vec<&str> = match &args.receiver {
        Some(receiver) if known.contains(&receiver.as_str()) || notification.receivers.contains(receiver) => {
            vec![receiver]
        }
        Some(receiver) => {
            let told: Vec<String> = notification.receivers.iter().map(|name| format!("`{name}`")).collect();
            let message = format!("`{}` does not go to `{receiver}`; it goes to {}", notification.id, told.join(", "));
            return Err(Failure::failed(message));
        }
        None => {
            let given_up = deliveries.iter().filter(|delivery| {
                use crate::dispatch::delivery::DeliveryStatus::{Expired, Failed};
                matches!(delivery.status, Failed | Expired)
            });
            given_up.map(|delivery| delivery.receiver.as_str()).collect()
        }
    };
    if receivers.is_empty() {
        return Err(Failure::failed(format!(
            "no delivery of `{}` was given up; name a receiver to have it sent again all the same: `--receiver NAME`",
            notification.id
        )));
    }
    let mut given = Vec::new();
    for receiver in &receivers {
        let (notification_id, receiver) = (notification.id.clone(), receiver.to_string());
        given.push(desk.give(&by, Command::Redeliver { notification_id, receiver })?);
    }
    if json {
        return desk.json(&json!(given));
    }
    let (id, to) = (&notification.id, receivers.join(", "));
    writeln!(desk.out, "{id} goes to {to} again; see what comes of it: driftline deliveries show {id}")?;
    Ok(())
}
