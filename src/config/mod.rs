//! What users write: the service file, models and rules; their shape, and their validation with line:column.
//!
//! `service`, `model`, `performance`, `rules`, `receivers`, `actions` and `rule_tests` hold the types that serde and schemars derive from. A file passes through four
//! layers, and every error of it comes back in one pass: `yaml` (text to a tree that knows where each key and
//! value stands), `schema` (that tree against the JSON Schema of the type, in words people use), serde, and
//! `meaning`, `receiver_checks`, `action_checks` and `performance_checks` (what a schema cannot say). `load` ties them together, `layers`
//! adds defaults and environment to the service file. `matcher` is what routes and silences ask, `silences` when these hold. What needs several files at once is checked by `rules::workspace`.
//!
//! `scorer` is the settings file of the scorer, which has no environment over it, `gate` that of `driftline gate`,
//! `transform` a model's feature transform.
//! What a file needs to be told from the others is in `kind`, what people bring along from other tools in `habits`, secrets
//! and interpolation in any text in `literals`. `codes` lists what can be found, `sarif` writes it for other programs.
//!
//! To add a key: add the field with its doc comment (it becomes the schema's description), run
//! `UPDATE_GOLDEN=1 cargo test --test check`, and add a good and a bad fixture to `tests/fixtures/config`.

pub mod action_checks;
pub mod action_guards;
pub mod actions;
pub mod codes;
pub mod diagnostic;
pub mod distribution;
pub mod gate;
pub mod glob;
pub mod habits;
pub mod kind;
pub mod layers;
pub mod literals;
pub mod load;
pub mod matcher;
pub mod meaning;
pub mod model;
pub mod nearest;
pub mod performance;
pub mod performance_checks;
pub mod prune;
pub mod receiver_checks;
pub mod receivers;
pub mod rule_test_checks;
pub mod rule_tests;
pub mod rules;
pub mod sarif;
pub mod schema;
pub mod scorer;
pub mod secret;
pub mod segment;
pub mod service;
pub mod silences;
pub mod template;
pub mod token_checks;
pub mod transform;
pub mod units;
mod violations;
pub mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics, Level, Problem};
pub use layers::load_service;
pub use load::{Loaded, load_model, load_rules, parse_model_str, parse_rules_str};
