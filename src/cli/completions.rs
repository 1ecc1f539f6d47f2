//! `driftline completions` and `driftline man`: what shells and `man` know of the command line, from its own definition.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use super::check::UNDECIDED;

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write one page for each subcommand here; default: the first page to standard output
    dir: Option<PathBuf>,
}

pub fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "driftline", &mut script);
    super::print(&script)
}

pub fn man(args: &ManArgs) -> ExitCode {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        return match clap_mangen::Man::new(super::command()).render(&mut page) {
            Ok(()) => super::print(&page),
            Err(error) => failed(&error.to_string()),
        };
    };
    let written = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(super::command(), dir));
    match written {
        Ok(()) => {
            println!("wrote the pages to {}", dir.display());
            ExitCode::SUCCESS
        }
        Err(error) => failed(&format!("{}: {error}", dir.display())),
    }
}

fn failed(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(UNDECIDED)
}
