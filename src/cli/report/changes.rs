//! Where a signal changed, by detectors that read the current rows in file order.

use super::windows::Cut;
use super::{Performance, ReportError, Task};
use crate::reference::table::{TableError, TableFile};
use crate::stats::change::{Detector, Method};

/// A signal that no column holds: whether, or by how much, the model was wrong.
pub const ERROR_SIGNAL: &str = "error";

/// What one method saw in one signal.
#[derive(Debug)]
pub struct SignalChanges {
    pub signal: String,
    pub method: Method,
    /// Values read; missing ones are passed over.
    pub values: usize,
    pub changes: Vec<RowEvent>,
    /// Where warnings began, for methods that warn.
    pub warnings: Vec<RowEvent>,
}

/// A row at which something was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowEvent {
    /// Position in the file; the first row is 0.
    pub row: usize,
    /// The window it is in, if any.
    pub window: Option<usize>,
    /// Epoch milliseconds.
    pub event_time_ms: Option<i64>,
}

/// What is asked for.
pub struct Request<'a> {
    pub methods: &'a [Method],
    pub signals: &'a [String],
    pub timestamp: Option<&'a str>,
    pub performance: Option<&'a Performance>,
}

pub fn find(request: &Request<'_>, current: &TableFile, cut: &Cut) -> Result<Vec<SignalChanges>, ReportError> {
    let on_current = |source| ReportError::Column { side: "current", path: current.path.clone(), source };
    let times = match request.timestamp {
        Some(column) if !request.methods.is_empty() => {
            let table = current.columns(&[column]).and_then(|table| table.epoch_ms(column));
            table.map_err(on_current)?
        }
        _ => Vec::new(),
    };
    let mut windows = vec![None; current.rows];
    for (window, rows) in cut.split((0..current.rows).collect()).iter().enumerate() {
        for row in rows {
            windows[*row] = Some(window);
        }
    }
    let event = |row: usize| RowEvent { row, window: windows[row], event_time_ms: times.get(row).copied().flatten() };
    let mut found = Vec::new();
    for signal in request.signals {
        let values = signal_values(signal, request.performance, current).map_err(|error| match error {
            SignalError::Table(source) => on_current(source),
            SignalError::Usage(message) => ReportError::Usage(message),
        })?;
        for method in request.methods {
            found.push(follow(signal, method, &values, event)?);
        }
    }
    Ok(found)
}

fn follow(
    signal: &str,
    method: &Method,
    values: &[f64],
    event: impl Fn(usize) -> RowEvent,
) -> Result<SignalChanges, ReportError> {
    let mut detector = Detector::new(method);
    let mut seen = SignalChanges {
        signal: signal.to_string(),
        method: method.clone(),
        values: 0,
        changes: Vec::new(),
        warnings: Vec::new(),
    };
    let mut warned = false;
    for (row, value) in values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
        let verdict = detector.observe(*value).ok_or_else(|| {
            ReportError::Usage(format!(
                "--detectors {}: takes {}, and `{signal}` holds {value} in row {} (the first is 1)",
                method.name(),
                method.domain().in_words(),
                row + 1
            ))
        })?;
        seen.values += 1;
        if verdict.change {
            seen.changes.push(event(row));
        }
        if verdict.warning && !warned {
            seen.warnings.push(event(row));
        }
        warned = verdict.warning;
    }
    Ok(seen)
}

enum SignalError {
    Table(TableError),
    Usage(String),
}

impl From<TableError> for SignalError {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

/// A column's numbers, or the model's errors; missing is NaN.
fn signal_values(
    signal: &str,
    performance: Option<&Performance>,
    current: &TableFile,
) -> Result<Vec<f64>, SignalError> {
    match current.kind(signal) {
        Err(_) if signal == ERROR_SIGNAL => errors(performance, current),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(current.columns(&[signal])?.numeric(signal)?),
    }
}

/// 1 where prediction and label differ; for a regression model the absolute error.
fn errors(performance: Option<&Performance>, current: &TableFile) -> Result<Vec<f64>, SignalError> {
    let columns = performance.and_then(|performance| Some((performance, performance.prediction.as_deref()?)));
    let Some((performance, prediction)) = columns else {
        return Err(SignalError::Usage(format!(
            "--signal {ERROR_SIGNAL}: the current file has no such column; for the model's errors give --task, --label \
             and --prediction"
        )));
    };
    let label = performance.label.as_str();
    let table = current.columns(&[label, prediction])?;
    if performance.task == Task::Regression {
        let pairs = table.numeric(label)?.into_iter().zip(table.numeric(prediction)?);
        return Ok(pairs.map(|(label, prediction)| (prediction - label).abs()).collect());
    }
    let pairs = table.categories(label)?.into_iter().zip(table.categories(prediction)?);
    let wrong = |pair| match pair {
        (Some(label), Some(prediction)) => f64::from(u8::from(label != prediction)),
        _ => f64::NAN,
    };
    Ok(pairs.map(wrong).collect())
}
