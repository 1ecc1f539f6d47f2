//! The command line: one file per subcommand.

pub mod dashboards;

use std::process::ExitCode;

pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
