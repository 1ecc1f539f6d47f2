//! A whole service: its file, models and rules, loaded and checked against each other in one pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cascade::{Damage, without_consequences};
use super::checks::model_problems;
use super::compile::{RuleSet, string_problems};
use crate::config::diagnostic::{Diagnostics, Level, Problem};
use crate::config::glob;
use crate::config::layers::{Layers, layered_as_far_as_possible};
use crate::config::load::{Loaded, open_model, open_rules, shown};
use crate::config::model::Model;
use crate::config::receivers::Receiver;
use crate::config::rule_tests::TEST_FILE_ENDING;
use crate::config::rules::RuleFile;
use crate::config::service::Service;
use crate::config::yaml::child;
use crate::log::topics::Topics;

/// Everything a process runs with. Valid: no error was found; what was doubtful stands in `warnings`.
#[derive(Debug, Clone)]
pub struct Workspace {
    pub service: Service,
    /// Directory that relative paths of the service file start from.
    pub base_dir: PathBuf,
    pub models: Vec<Arc<Model>>,
    /// Where each model's file stands, in the order of `models`: paths of its references start there.
    pub model_dirs: Vec<PathBuf>,
    pub rules: RuleSet,
    pub warnings: Diagnostics,
}

/// Everything that could be read of a service, right or wrong, and what was found: for further checks.
#[derive(Debug, Clone)]
pub struct Examined {
    /// Its warnings are in `found`.
    pub workspace: Workspace,
    pub rule_files: Vec<Loaded<RuleFile>>,
    /// Tests of rules; nothing of them is read here.
    pub test_files: Vec<PathBuf>,
    /// Parts of files that could not be read.
    pub damage: Damage,
    pub found: Diagnostics,
}

impl Workspace {
    /// `None`: `driftline.yaml` in the working directory if it is there. Reads the process's environment.
    pub fn load(path: Option<&Path>) -> Result<Self, Diagnostics> {
        Self::load_with(path, &crate::config::layers::variables())
    }

    /// As `load`, with the environment given.
    pub fn load_with(path: Option<&Path>, variables: &BTreeMap<String, String>) -> Result<Self, Diagnostics> {
        let examined = Examined::of(path, variables)?;
        match examined.found.errors() {
            0 => Ok(Workspace { warnings: examined.found, ..examined.workspace }),
            _ => Err(examined.found),
        }
    }
}

impl Examined {
    /// An error only where the service file says nothing of what belongs to the service.
    pub fn of(path: Option<&Path>, variables: &BTreeMap<String, String>) -> Result<Self, Diagnostics> {
        let (layers, found) = layered_as_far_as_possible(path, variables);
        match layers {
            Some(layers) => Ok(Loader { layers, found, damage: Damage::default() }.load()),
            None => Err(found),
        }
    }
}

struct Loader {
    layers: Layers,
    found: Diagnostics,
    /// Parts of files that could not be read: what names them would seem unknown.
    damage: Damage,
}

impl Loader {
    fn load(mut self) -> Examined {
        if let Some(file) = &self.layers.file {
            self.found.extend(file.warnings.clone());
        }
        let model_patterns = self.layers.service.models.clone();
        let model_files = self.files("models", &model_patterns, Level::Error);
        let rule_patterns = self.layers.service.rules.clone();
        let is_test = |path: &PathBuf| path.to_string_lossy().ends_with(TEST_FILE_ENDING);
        let (test_files, rule_files): (Vec<PathBuf>, Vec<PathBuf>) =
            self.files("rules", &rule_patterns, Level::Warning).into_iter().partition(is_test);
        let models = self.models(&model_files);
        let rule_files = self.rules(&rule_files);
        self.unique_models(&models);
        self.label_topics(&models);
        let shared: Vec<Arc<Model>> = models.iter().map(|(_, model)| Arc::new(model.value.clone())).collect();
        let contents: Vec<&RuleFile> = rule_files.iter().map(|file| &file.value).collect();
        let (rules, problems) = RuleSet::analyse(&contents, &shared);
        for found in without_consequences(problems, self.damage) {
            let file = &rule_files[found.file];
            if !file.is_damaged(&found.problem) {
                self.found.push(file.locate(found.problem));
            }
        }
        self.mail(&rule_files);
        self.topics_of_receivers(&rule_files, &models);
        self.found.sort();
        let dir = |path: &PathBuf| path.parent().unwrap_or(Path::new(".")).to_path_buf();
        let model_dirs = models.iter().map(|(path, _)| dir(path)).collect();
        let Layers { service, base_dir, .. } = self.layers;
        let warnings = Diagnostics::default();
        let workspace = Workspace { service, base_dir, models: shared, model_dirs, rules, warnings };
        Examined { workspace, rule_files, test_files, damage: self.damage, found: self.found }
    }

    /// Files of all patterns, each once; a pattern that matches nothing is reported.
    fn files(&mut self, key: &str, patterns: &[String], level: Level) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = Vec::new();
        for (index, pattern) in patterns.iter().enumerate() {
            let matched = match glob::files(&self.layers.base_dir, pattern) {
                Ok(matched) => matched,
                Err(error) => {
                    self.found.extend(Diagnostics::file(pattern, "unreadable", format!("cannot read: {error}")));
                    continue;
                }
            };
            if matched.is_empty() {
                let message = format!("no file matches `{pattern}`");
                let level = if glob::is_glob(pattern) { level } else { Level::Error };
                let problem = Problem { level, ..Problem::error("no-file", format!("/{key}/{index}"), message) };
                self.report(problem.help(format!("paths start at {}", self.layers.base_dir.display())));
            }
            for file in matched {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        files
    }

    /// At its place in the service file; without one, by the file's name alone.
    fn report(&mut self, problem: Problem) {
        match &self.layers.file {
            Some(file) => self.found.push(file.locate(problem)),
            None => {
                let mut found = Diagnostics::file("defaults", problem.code, problem.message);
                for item in &mut found.items {
                    item.level = problem.level;
                    item.help = problem.help.clone();
                }
                self.found.extend(found);
            }
        }
    }

    fn models(&mut self, files: &[PathBuf]) -> Vec<(PathBuf, Loaded<Model>)> {
        let mut models = Vec::new();
        for path in files {
            let outcome = open_model(path, &shown(path), model_problems);
            self.damage.models |= !outcome.is_whole();
            self.found.extend(outcome.found);
            models.extend(outcome.loaded.map(|model| (path.clone(), model)));
        }
        models
    }

    fn rules(&mut self, files: &[PathBuf]) -> Vec<Loaded<RuleFile>> {
        let mut rules = Vec::new();
        for path in files {
            let outcome = open_rules(path, &shown(path), string_problems);
            self.damage = self.damage.of_rules(&outcome);
            self.found.extend(outcome.found);
            rules.extend(outcome.loaded);
        }
        rules
    }

    fn unique_models(&mut self, models: &[(PathBuf, Loaded<Model>)]) {
        for (index, (_, model)) in models.iter().enumerate() {
            let name = &model.value.model;
            if let Some((_, first)) = models[..index].iter().find(|(_, other)| other.value.model == *name) {
                let message = format!("another model is named `{name}`");
                let help = format!("it stands in {}", first.name());
                self.found.push(model.locate(Problem::error("duplicate-model", "/model", message).help(help)));
            }
        }
    }

    /// Labels of one model on the topic with another's predictions: where these take every event of it, each label would
    /// become a dead letter of theirs.
    fn label_topics(&mut self, models: &[(PathBuf, Loaded<Model>)]) {
        for (_, model) in models {
            for (index, topic) in model.value.label_topics().enumerate() {
                let of_another = |other: &Loaded<Model>| {
                    let other = &other.value;
                    other.model != model.value.model && other.fields.model.is_none() && other.topics.contains(topic)
                };
                let Some((_, other)) = models.iter().find(|(_, other)| of_another(other)) else { continue };
                let message =
                    format!("`{topic}` has the predictions of `{}`, which takes every event of it", other.value.model);
                let pointer = format!("/performance/labels/topics/{index}");
                let problem = Problem::error("contradiction", pointer, message);
                self.found.push(model.locate(problem.help("put labels on a topic of their own")));
            }
        }
    }

    /// A receiver that writes to a topic which Driftline reads would feed itself, or mix its words with those of others.
    fn topics_of_receivers(&mut self, files: &[Loaded<RuleFile>], models: &[(PathBuf, Loaded<Model>)]) {
        let own: Vec<String> =
            Topics::new(&self.layers.service.app).specs(1, 1).into_iter().map(|spec| spec.name).collect();
        for file in files {
            for (name, receiver) in &file.value.receivers {
                let Some(kafka) = &receiver.kafka else { continue };
                let pointer = format!("{}/kafka/topic", child("/receivers", name));
                let reads = |model: &&Model| {
                    model.topics.contains(&kafka.topic) || model.label_topics().any(|topic| *topic == kafka.topic)
                };
                let message = if own.contains(&kafka.topic) {
                    format!("`{}` is Driftline's own topic", kafka.topic)
                } else if let Some(model) = models.iter().map(|(_, model)| &model.value).find(reads) {
                    format!("model `{}` reads `{}`: alerts would come in as its events", model.model, kafka.topic)
                } else {
                    continue;
                };
                let problem = Problem::error("source-topic", pointer, message);
                self.found.push(file.locate(problem.help("name a topic that only alerts go to")));
            }
        }
    }

    fn mail(&mut self, files: &[Loaded<RuleFile>]) {
        let service_is_whole = self.layers.file.as_ref().is_none_or(Loaded::is_whole);
        if self.layers.service.smtp.is_some() || !service_is_whole {
            return;
        }
        for file in files {
            let writes = |receiver: &Receiver| receiver.email.is_some();
            for (name, _) in file.value.receivers.iter().filter(|(_, receiver)| writes(receiver)) {
                let pointer = child(&child("/receivers", name), "email");
                let problem = Problem::error("no-smtp", pointer, "no mail server is configured").key();
                let help =
                    "add `smtp: {url: smtps://mail.example.com:465, from: drift@example.com}` to the service file";
                self.found.push(file.locate(problem.help(help)));
            }
        }
    }
}
