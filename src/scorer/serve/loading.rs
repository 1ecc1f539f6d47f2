//! Loads versions on threads of their own: one whose warm-up never ends holds up nothing but itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::source::{Loaded, Source};
use crate::config::scorer::ModelSettings;

/// How long a version that was loaded too late is kept for whoever asks for it again.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// Loads that are under way, at most one of each version.
pub struct Loading {
    source: Arc<dyn Source>,
    /// How long a load is waited for; it goes on after that.
    patience: Duration,
    under_way: HashMap<(String, String), UnderWay>,
}

struct UnderWay {
    since: Instant,
    thread: std::thread::JoinHandle<()>,
    outcome: Receiver<Result<Loaded, String>>,
}

impl Loading {
    pub fn new(source: Arc<dyn Source>, patience: Duration) -> Self {
        Self { source, patience, under_way: HashMap::new() }
    }

    /// Loads a version, or takes the outcome of a load that was waited for in vain before.
    ///
    /// # Errors
    /// It cannot be loaded, or not in time: then it is not waited for again, only looked at. The reason.
    pub fn load(&mut self, model: &str, version: &str, settings: &Arc<ModelSettings>) -> Result<Loaded, String> {
        let key = (model.to_string(), version.to_string());
        let (load, patience) = match self.under_way.remove(&key) {
            Some(load) => (load, Duration::ZERO),
            None => (self.begin(model, version, settings)?, self.patience),
        };
        match load.outcome.recv_timeout(patience) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Disconnected) => Err("the thread that loaded it ended unexpectedly".into()),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = load.since.elapsed().as_secs();
                self.under_way.insert(key, load);
                Err(format!("it is still being loaded and warmed after {seconds} s; ask again later"))
            }
        }
    }

    /// Forgets what came too late and nobody asked for again.
    pub fn sweep(&mut self) {
        self.under_way.retain(|_, load| !load.thread.is_finished() || load.since.elapsed() < KEPT_FOR);
    }

    fn begin(&self, model: &str, version: &str, settings: &Arc<ModelSettings>) -> Result<UnderWay, String> {
        let (send, outcome) = sync_channel(1);
        let (source, settings) = (Arc::clone(&self.source), Arc::clone(settings));
        let (model, version) = (model.to_string(), version.to_string());
        let thread = std::thread::Builder::new().name(format!("load {model} {version}")).spawn(move || {
            // Nobody takes it if the process ends meanwhile.
            let _ = send.send(source.load(&model, &version, &settings));
        });
        let thread = thread.map_err(|error| format!("no thread to load it: {error}"))?;
        Ok(UnderWay { since: Instant::now(), thread, outcome })
    }
}
