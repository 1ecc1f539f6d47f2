//! `driftline deliveries list`.

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::alerts::show::{delivery_json, status_word};
use crate::cli::operate::ledger::Ledger;
use crate::cli::operate::{Desk, Outcome, table};
use crate::dispatch::delivery::{DeliveryRecord, DeliveryStatus};
use crate::http::wording;

#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    #[arg(long, value_enum, default_value = "open")]
    pub status: Status,
    /// Only to this receiver
    #[arg(long, value_name = "NAME")]
    pub receiver: Option<String>,
    /// At most so many, the newest first
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Status {
    /// Pending, failed or expired
    Open,
    Pending,
    Delivered,
    Failed,
    Expired,
    Superseded,
    All,
}

impl Status {
    fn is(self, status: DeliveryStatus) -> bool {
        match self {
            Status::Open => !matches!(status, DeliveryStatus::Delivered | DeliveryStatus::Superseded),
            Status::Pending => status == DeliveryStatus::Pending,
            Status::Delivered => status == DeliveryStatus::Delivered,
            Status::Failed => status == DeliveryStatus::Failed,
            Status::Expired => status == DeliveryStatus::Expired,
            Status::Superseded => status == DeliveryStatus::Superseded,
            Status::All => true,
        }
    }
}

pub fn run(desk: &mut Desk<'_>, args: &ListArgs, json: bool) -> Outcome {
    let ledger = Ledger::read(desk)?;
    let mut found: Vec<&DeliveryRecord> = ledger
        .all_deliveries()
        .filter(|delivery| args.status.is(delivery.status))
        .filter(|delivery| args.receiver.as_ref().is_none_or(|receiver| *receiver == delivery.receiver))
        .collect();
    found.sort_by_key(|delivery| (std::cmp::Reverse(delivery.first_at_ms), delivery.key()));
    let shown = &found[..found.len().min(args.limit)];
    if json {
        let items: Vec<_> = shown.iter().map(|delivery| delivery_json(delivery)).collect();
        return desk.json(&json!({"deliveries": items, "total": found.len()}));
    }
    if found.is_empty() {
        let words = match args.status {
            Status::Open => "everything is delivered; `--status all` lists it",
            _ => "no such delivery is known",
        };
        writeln!(desk.out, "{words}")?;
        return Ok(());
    }
    let row = |delivery: &&DeliveryRecord| {
        let next = delivery.next_attempt_ms.filter(|_| delivery.status == DeliveryStatus::Pending);
        vec![
            delivery.notification.id.clone(),
            delivery.receiver.clone(),
            status_word(delivery.status).to_string(),
            delivery.attempts.to_string(),
            wording::ago(delivery.first_at_ms, desk.now_ms),
            next.map_or_else(String::new, |ms| wording::ago(ms.max(desk.now_ms), desk.now_ms)),
            delivery.last_error.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = shown.iter().map(row).collect();
    table::print(desk.out, &["NOTIFICATION", "RECEIVER", "STATUS", "ATTEMPTS", "SINCE", "NEXT", "LAST ERROR"], &rows)?;
    if found.len() > shown.len() {
        writeln!(desk.out, "{} more; see `--limit`", found.len() - shown.len())?;
    }
    Ok(())
}
