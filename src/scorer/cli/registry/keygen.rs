//! `driftline-scorer keygen`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::Args;

use super::{Failure, Outcome};
use crate::scorer::registry::signing::SigningKey;

#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// File for the private key, which must not be there yet; the public key is printed
    file: PathBuf,
}

pub fn run(args: &KeygenArgs) -> Outcome {
    let (key, pem) = SigningKey::generate().map_err(|error| Failure { code: 3, message: error.to_string() })?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.file)
        .and_then(|mut file| file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| Failure { code: 3, message: format!("cannot write {}: {error}", args.file.display()) })?;
    println!("{}", key.public().base64());
    eprintln!("key {}: the line above is its public half, for `signatures.trusted_keys`", key.public().id());
    Ok(())
}
