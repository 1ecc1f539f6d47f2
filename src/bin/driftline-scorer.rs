use std::process::ExitCode;

fn main() -> ExitCode {
    driftline::scorer::cli::main()
}
