use std::process::ExitCode;

fn main() -> ExitCode {
    driftline::cli::main()
}
