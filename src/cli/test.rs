//! `driftline test`: tests of rules, by the machines of production, in no time.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};

use super::check::{FAILED, OK, UNDECIDED};
use crate::config::diagnostic::Diagnostics;
use crate::config::glob;
use crate::config::layers::{self, ConfigError, DEFAULT_FILE, layered};
use crate::config::load::{Outcome, open_model, open_rule_tests, parse_rule_tests};
use crate::config::model::Model;
use crate::config::rule_tests::{RuleTestFile, TEST_FILE_ENDING};
use crate::rule_test::report::{self, Tested};
use crate::rule_test::run::{References, run as run_test};
use crate::rule_test::suite::{Origin, Suite, files_below};
use crate::rules::checks::model_problems;

#[derive(Debug, Clone, Args)]
pub struct TestArgs {
    /// Files of tests, directories with *.test.yaml in or below them, `-` for standard input; default: those beside the
    /// rules of the service.
    #[arg(value_name = "FILES")]
    pub paths: Vec<PathBuf>,
    /// The service file, whose models the tests are about unless they name their own; default: the nearest
    /// driftline.yaml in the folder of the tests or above it.
    #[arg(long, value_name = "FILE", env = "DRIFTLINE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Only tests whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    #[arg(long, value_enum, default_value_t = TestFormat::Text)]
    pub format: TestFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TestFormat {
    Text,
    Json,
    /// XML that CI systems show
    Junit,
}

pub fn run(args: &TestArgs) -> ExitCode {
    let stdout = std::io::stdout();
    let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut stdin = || {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    };
    ExitCode::from(test(args, &mut stdin, colour, &mut stdout.lock(), &mut std::io::stderr()))
}

/// Runs the tests and returns the exit code: 0 all passed, 1 some failed or a file is wrong, 4 it could not be decided: a
/// file cannot be read, a test could not run, or there is none.
pub fn test(
    args: &TestArgs,
    stdin: &mut dyn FnMut() -> std::io::Result<String>,
    colour: bool,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> u8 {
    let begun = Instant::now();
    let mut collected =
        Collector { config: args.config.clone(), services: BTreeMap::new(), found: Diagnostics::default() };
    let suites = collected.suites(&args.paths, stdin);
    let found = collected.found;
    if found.errors() > 0 {
        let written = match args.format {
            TestFormat::Json => writeln!(out, "{:#}", found.json()),
            _ => writeln!(errors, "{}", found.text(colour).trim_end()),
        };
        return if written.is_err() || found.unreadable() { UNDECIDED } else { FAILED };
    }
    let is_text = args.format == TestFormat::Text;
    let mut tested = Vec::new();
    for suite in &suites {
        let mut references = References::default();
        let wanted = suite
            .file
            .tests
            .iter()
            .filter(|test| args.filter.as_ref().is_none_or(|filter| test.name.contains(filter.as_str())));
        for test in wanted {
            let begun = Instant::now();
            let result = run_test(suite, test, &mut references).map_err(|error| error.to_string());
            let seconds = begun.elapsed().as_secs_f64();
            let one = Tested { file: suite.name.clone(), name: test.name.clone(), seconds, result };
            if is_text && write!(out, "{}", report::line(&one, colour)).and_then(|()| out.flush()).is_err() {
                return UNDECIDED;
            }
            tested.push(one);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let printed = match args.format {
        TestFormat::Text => write!(out, "{}", report::totals(&tested, seconds)),
        TestFormat::Json => writeln!(out, "{:#}", report::json(&tested, seconds)),
        TestFormat::Junit => write!(out, "{}", report::junit(&tested, seconds)),
    };
    if tested.is_empty() {
        let _ = writeln!(errors, "{}", nothing(args));
    }
    let failed = tested.iter().any(|tested| tested.result.as_ref().is_ok_and(|ran| !ran.failures.is_empty()));
    if printed.is_err() || tested.is_empty() {
        UNDECIDED
    } else if failed {
        FAILED
    } else if tested.iter().all(Tested::passed) {
        OK
    } else {
        UNDECIDED
    }
}

fn nothing(args: &TestArgs) -> String {
    match (&args.filter, args.paths.is_empty()) {
        (Some(filter), _) => format!("no test's name contains `{filter}`"),
        (None, true) => format!("no file ends in {TEST_FILE_ENDING} beside the rules; name one: driftline test FILE"),
        (None, false) => format!("no file ends in {TEST_FILE_ENDING} there"),
    }
}

/// Finds files of tests, and reads them with what they are about.
struct Collector {
    config: Option<PathBuf>,
    /// Models by service file.
    services: BTreeMap<PathBuf, Vec<Arc<Model>>>,
    found: Diagnostics,
}

impl Collector {
    fn suites(&mut self, paths: &[PathBuf], stdin: &mut dyn FnMut() -> std::io::Result<String>) -> Vec<Suite> {
        let paths = if paths.is_empty() { self.beside_the_rules() } else { paths.to_vec() };
        let mut suites = Vec::new();
        for path in paths {
            if path == Path::new("-") {
                match stdin() {
                    Ok(text) => {
                        suites.extend(self.suite(parse_rule_tests("standard input", &text), "standard input", None))
                    }
                    Err(error) => self.unreadable(&path, &error),
                }
            } else if path.is_dir() {
                match files_below(&path) {
                    Ok(files) => suites.extend(files.iter().filter_map(|file| self.file(file))),
                    Err(error) => self.unreadable(&path, &error),
                }
            } else {
                suites.extend(self.file(&path));
            }
        }
        suites
    }

    fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        let name = path.display().to_string();
        self.found.extend(Diagnostics::file(&name, "unreadable", format!("cannot read: {error}")));
    }

    fn file(&mut self, path: &Path) -> Option<Suite> {
        let name = path.strip_prefix(".").unwrap_or(path).display().to_string();
        self.suite(open_rule_tests(path, &name), &name, Some(path))
    }

    fn suite(&mut self, outcome: Outcome<RuleTestFile>, name: &str, path: Option<&Path>) -> Option<Suite> {
        let names_models = outcome.loaded.as_ref().is_some_and(|loaded| !loaded.value.models.is_empty());
        let service = if names_models { None } else { self.service_of(path) };
        let models = service.map(|service| self.models(&service)).unwrap_or_default();
        match Suite::of(outcome, &Origin { name, path, service_models: &models }) {
            Ok(suite) => {
                self.found.extend(suite.warnings.clone());
                Some(suite)
            }
            Err(found) => {
                self.found.extend(found);
                None
            }
        }
    }

    /// The service file that was named, or the nearest one from the tests upward.
    fn service_of(&self, path: Option<&Path>) -> Option<PathBuf> {
        if self.config.is_some() {
            return self.config.clone();
        }
        let folder = match path.and_then(Path::parent) {
            Some(folder) if folder != Path::new("") => folder.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let above = std::path::absolute(&folder).unwrap_or(folder);
        above.ancestors().map(|folder| folder.join(DEFAULT_FILE)).find(|file| file.is_file())
    }

    fn layers(&mut self, service: &Path) -> Option<layers::Layers> {
        match layered(Some(service), &layers::variables()) {
            Ok(layers) => Some(layers),
            Err(ConfigError::File(found)) => {
                self.found.extend(found);
                None
            }
            Err(ConfigError::Environment(lines)) => {
                let found = lines.into_iter().map(|line| Diagnostics::file("environment", "environment", line));
                found.for_each(|found| self.found.extend(found));
                None
            }
        }
    }

    fn models(&mut self, service: &Path) -> Vec<Arc<Model>> {
        if let Some(models) = self.services.get(service) {
            return models.clone();
        }
        let Some(layers) = self.layers(service) else { return Vec::new() };
        let mut models = Vec::new();
        for pattern in &layers.service.models {
            for path in glob::files(&layers.base_dir, pattern).unwrap_or_default() {
                let outcome = open_model(&path, &path.display().to_string(), model_problems);
                if outcome.found.errors() > 0 {
                    self.found.extend(outcome.found);
                }
                models.extend(outcome.loaded.map(|loaded| Arc::new(loaded.value)));
            }
        }
        self.services.insert(service.to_path_buf(), models.clone());
        models
    }

    /// Files of tests that the patterns of the service's rules match.
    fn beside_the_rules(&mut self) -> Vec<PathBuf> {
        let Some(service) = self.config.clone().or_else(|| {
            let here = PathBuf::from(DEFAULT_FILE);
            here.is_file().then_some(here)
        }) else {
            return glob::files(Path::new("rules"), &format!("*{TEST_FILE_ENDING}")).unwrap_or_default();
        };
        let Some(layers) = self.layers(&service) else { return Vec::new() };
        let mut files: Vec<PathBuf> = Vec::new();
        for pattern in &layers.service.rules {
            let matched = glob::files(&layers.base_dir, pattern).unwrap_or_default();
            let folders = matched.iter().filter_map(|path| path.parent());
            let beside =
                folders.flat_map(|folder| glob::files(folder, &format!("*{TEST_FILE_ENDING}")).unwrap_or_default());
            for path in beside.collect::<Vec<_>>() {
                if !files.contains(&path) {
                    files.push(path);
                }
            }
        }
        files
    }
}
