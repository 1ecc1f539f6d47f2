//! Rules tried on history, by the machines of production: events or record batches go through ingest's aggregation, the
//! windows and the rules, and what these tell through dispatch's schedule, with event time as the clock and no log
//! between them. Panes, windows and groups are those of the service, so the ids of episodes and notifications are too.
//!
//! `engine` is what callers hold; `lane` runs the machines of one model; `labels_join` lets predictions meet labels that
//! come apart; `trail` is what comes out; `outgoing` asks the schedule what would have been sent, `runs` the machine of actions
//! what would have run; `history` reads files. `compare`, `incidents` and
//! `suggest` say what to make of a trail. All of it is pure: the
//! time is that of the events. To try rules on another kind of history, turn it into record batches in the schema of
//! `event::schema`, or into raw events, and `push` them in the order in which they would have been read.

pub mod compare;
pub mod engine;
pub mod history;
pub mod incidents;
mod labels_join;
mod lane;
mod outgoing;
pub mod runs;
pub mod suggest;
pub mod trail;

pub use engine::{Engine, EngineOptions};
pub use trail::{Episode, Evaluation, Message, MessageKind, StateChange, Trail};

/// Why history cannot be tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BacktestError {
    /// A model has no reference among those given.
    #[error("model `{model}` has no reference; build one: driftline reference build --model {model}")]
    NoReference { model: String },
    /// Model and reference do not fit together, or cannot be read from events.
    #[error("{0}")]
    Configuration(String),
    #[error("no model `{model}`; the models are {}", known.join(", "))]
    UnknownModel { model: String, known: Vec<String> },
    /// A batch is not in the schema of the model's decoded events.
    #[error("rows of model `{model}`: {reason}")]
    Rows { model: String, reason: String },
    /// A machine failed on what it was given.
    #[error("model `{model}`: {reason}")]
    Failed { model: String, reason: String },
}
