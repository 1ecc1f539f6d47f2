//! `driftline dashboards export DIR`: the Grafana dashboards and their provisioning, for one's own Grafana.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::http::dashboards;

#[derive(Debug, Args)]
pub struct Dashboards {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write dashboards and provisioning files under a directory, replacing those of an earlier export.
    Export {
        /// Created if it does not exist.
        dir: PathBuf,
    },
}

/// Exit codes: 0 written, 4 a file could not be written.
pub fn run(arguments: &Dashboards) -> ExitCode {
    let Command::Export { dir } = &arguments.command;
    for (name, content) in dashboards::files() {
        let path = dir.join(name);
        if let Err(error) = write(&path, &content) {
            eprintln!("error: {}: {error}", path.display());
            return ExitCode::from(4);
        }
        println!("{}", path.display());
    }
    ExitCode::SUCCESS
}

fn write(path: &Path, content: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, content)
}
