//! `driftline check`: everything wrong with a service, its models and rules, in one pass. `files` checks files by
//! themselves, `tests` those of rules, `references` those that are built.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::config::diagnostic::Diagnostics;
use crate::config::layers;
use crate::config::load::Loaded;
use crate::config::rules::RuleFile;
use crate::rules::workspace::Examined;

mod files;
mod references;
mod tests;

/// Exit codes of every subcommand.
pub const OK: u8 = 0;
pub const FAILED: u8 = 1;
pub const WARNINGS_DENIED: u8 = 3;
pub const UNDECIDED: u8 = 4;

#[derive(Debug, Clone, Default, Args)]
pub struct CheckArgs {
    /// The service file; default: driftline.yaml here.
    #[arg(long, value_name = "FILE", env = "DRIFTLINE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Check only these files, against each other and not against the service; `-` reads standard input.
    #[arg(value_name = "FILES")]
    pub files: Vec<PathBuf>,
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    pub format: CheckFormat,
    /// Exit with 3 if there are warnings.
    #[arg(long)]
    pub deny_warnings: bool,
    /// A rules file as it was before: a rule renamed without `formerly` is an error. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub previous: Vec<PathBuf>,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    #[default]
    Text,
    Json,
    /// SARIF 2.1.0, for code hosts
    Sarif,
}

/// How other subcommands print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

pub fn run(args: &CheckArgs) -> ExitCode {
    let stdout = std::io::stdout();
    let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    ExitCode::from(check(args, &layers::variables(), colour, &mut stdout.lock()))
}

/// Prints the findings and returns the exit code: 0 valid, 1 errors, 3 warnings under `--deny-warnings`, 4 a file
/// could not be read.
pub fn check(args: &CheckArgs, variables: &BTreeMap<String, String>, colour: bool, out: &mut dyn Write) -> u8 {
    let (previous, mut found) = files::previous(&args.previous);
    let (more, checked) = match args.files.is_empty() {
        true => service(args.config.as_deref(), variables, &previous),
        false => files::check(&args.files, &previous),
    };
    found.extend(more);
    let printed = match args.format {
        CheckFormat::Text => writeln!(out, "{}", text(&found, &checked, colour)),
        CheckFormat::Json => writeln!(out, "{:#}", found.json()),
        CheckFormat::Sarif => writeln!(out, "{:#}", found.sarif()),
    };
    // A reader that has seen enough changes nothing of what was found.
    let is_lost = printed.is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe);
    if is_lost || found.unreadable() {
        UNDECIDED
    } else if found.errors() > 0 {
        FAILED
    } else if args.deny_warnings && found.warnings() > 0 {
        WARNINGS_DENIED
    } else {
        OK
    }
}

fn text(found: &Diagnostics, checked: &str, colour: bool) -> String {
    let totals = format!("{}, {}", count(found.errors(), "error"), count(found.warnings(), "warning"));
    let separator = if found.is_empty() { "" } else { "\n" };
    format!("{}{separator}{checked}: {totals}", found.text(colour))
}

fn count(number: usize, word: &str) -> String {
    match number {
        0 => format!("no {word}s"),
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    }
}

fn service(
    config: Option<&Path>,
    variables: &BTreeMap<String, String>,
    previous: &[Loaded<RuleFile>],
) -> (Diagnostics, String) {
    let examined = match Examined::of(config, variables) {
        Ok(examined) => examined,
        Err(found) => return (found, "checked".into()),
    };
    let (models, rules) = (examined.workspace.models.len(), examined.workspace.rules.rules().len());
    let mut found = examined.found.clone();
    found.extend(files::renamed(previous, &examined.rule_files));
    found.extend(files::past_silences(&examined.rule_files));
    found.extend(tests::of_service(&examined));
    found.extend(references::problems(&examined));
    found.sort();
    (found, format!("{}, {}", count(models, "model"), count(rules, "rule")))
}
