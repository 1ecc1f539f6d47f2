//! A side that is a Kafka topic of JSON objects.

use std::io::{IsTerminal, Write};
use std::path::Path;

use super::side::Side;
use super::{SkewArgs, SkewError};
use crate::cli::service::now_ms;
use crate::log::kafka::{KafkaLog, KafkaOptions};
use crate::reference::topic::{RecordRange, read as read_topic};
use crate::rules::Workspace;

/// The topic of `kafka:TOPIC`.
pub fn name(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix("kafka:").filter(|topic| !topic.is_empty())
}

/// Reads the topic to its end. What could not be read stands in the notes.
pub fn read(arguments: &SkewArgs, side: &'static str, path: &Path, notes: &mut Vec<String>) -> Result<Side, SkewError> {
    let topic = name(path).unwrap_or_default();
    let workspace = Workspace::load(arguments.config.as_deref())
        .map_err(|errors| SkewError::Service(errors.text(false).trim_end().to_string()))?;
    let failed = |source| SkewError::Topic { side, path: path.to_path_buf(), source };
    let kafka = &workspace.service.kafka;
    let options = KafkaOptions {
        bootstrap_servers: kafka.bootstrap_servers.clone(),
        client_id: format!("{}-skew", workspace.service.app),
        instance: None,
        properties: kafka.properties.clone(),
    };
    let log = KafkaLog::new(options).map_err(|error| failed(error.into()))?;
    let now_ms = now_ms();
    let range = RecordRange {
        from_ms: arguments.since.map_or(i64::MIN, |time| time.ms(now_ms)),
        to_ms: arguments.until.map_or(i64::MAX, |time| time.ms(now_ms)),
        most_rows: arguments.max_rows,
    };
    let shown = std::io::stderr().is_terminal();
    let rows = read_topic(&log, topic, &range, |read| {
        if shown {
            // Nobody misses a line of progress that could not be written.
            let _ = write!(std::io::stderr(), "\r{read} records read");
        }
    });
    if shown {
        eprintln!();
    }
    let rows = rows.map_err(failed)?;
    if rows.broken > 0 {
        notes.push(format!("`{topic}`: {} of {} records are no JSON object", rows.broken, rows.read));
    }
    Ok(Side::of_table(side, path, rows.table))
}
