//! `driftline-scorer featurize`: training data by the transform that will serve.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::cli::backtest::progress_bar;
use crate::scorer::batch::{Featurizer, FileOptions, run_file};
use crate::scorer::transform::FeatureTransform;

/// What is written from what.
#[derive(Debug, Args)]
pub struct FeaturizeArgs {
    /// The feature transform (`transform.yaml`).
    #[arg(long, value_name = "FILE")]
    transform: PathBuf,
    /// Columns of the input that stay beside the features, such as the label; may be given several times.
    #[arg(long, value_name = "COLUMN")]
    keep: Vec<String>,
    /// Rows of raw features: Parquet or JSONL.
    input: PathBuf,
    /// Where the features go, in the same kind of file.
    output: PathBuf,
}

pub fn run(args: &FeaturizeArgs) -> ExitCode {
    match featurize(args) {
        Ok((rows, id)) => {
            println!("{rows} rows; transform {id}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn featurize(args: &FeaturizeArgs) -> Result<(u64, String), String> {
    let name = args.transform.display().to_string();
    let bytes = std::fs::read(&args.transform).map_err(|error| format!("{name}: cannot be read: {error}"))?;
    let transform = Arc::new(FeatureTransform::parse(&name, &bytes).map_err(|found| found.to_string())?);
    let options = FileOptions { keep: Some(args.keep.clone()) };
    let mut work = Featurizer::new(Arc::clone(&transform));
    let bar = progress_bar("featurize");
    let progress = |done, total: Option<u64>| {
        bar.set_length(total.unwrap_or(done));
        bar.set_position(done);
    };
    let rows = run_file(&mut work, &args.input, &args.output, &options, &progress);
    bar.finish_and_clear();
    rows.map(|rows| (rows, transform.id().to_string())).map_err(|error| error.to_string())
}
