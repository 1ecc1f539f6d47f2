//! Keeps what serves as the registry has it: loads the versions that a state names, and swaps only when they are warm.
//!
//! The registry is looked at every second, and at once when told: other processes change it too. A version in production
//! that cannot be loaded changes nothing: what served before goes on. A canary, a shadow or a previous version that cannot
//! be loaded is left out, and production answers for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Scorer;
use super::loading::Loading;
use super::source::Source;
use super::table::{ServedModel, ServedVersion, Table};
use crate::config::scorer::ModelSettings;
use crate::scorer::registry::state::ServingState;
use crate::scorer::traffic::choose::experiment_versions;

/// How often the registry is looked at unasked.
const POLL: Duration = Duration::from_secs(1);
/// How soon a version that could not be loaded is tried again, unless the state changes before.
const RETRY: Duration = Duration::from_secs(30);
/// How long a load is waited for: as long, nothing else changes. One that takes longer is looked at again after `RETRY`.
const PATIENCE: Duration = Duration::from_secs(60);
/// A server that computes is asked again sooner, but so that no more than about a tenth of the time goes into it: it holds
/// up the others.
const SHARE_OF_RETRIES: u32 = 10;
/// How long a version that was prepared is kept without any state naming it.
const PREPARED_FOR: Duration = Duration::from_secs(60);
/// Commands that may wait.
const MAX_COMMANDS: usize = 64;

enum Command {
    /// Look at the registry now, and say when that is done.
    Refresh(Option<oneshot::Sender<()>>),
    /// Load a version that a change is about to name.
    Prepare { model: String, version: String, done: oneshot::Sender<Result<(), String>> },
    /// Take a model out of memory, or in again.
    Serve { model: String, wanted: bool, done: oneshot::Sender<Result<(), String>> },
}

/// Tells the follower what to do.
#[derive(Clone)]
pub struct FollowHandle {
    commands: SyncSender<Command>,
}

impl FollowHandle {
    /// The registry has changed: look now rather than within a second.
    pub fn notify(&self) {
        match self.commands.try_send(Command::Refresh(None)) {
            // If it is full it is about to look anyway; if it has ended, nothing serves any more.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// As `notify`, and waits until what serves is as the registry has it, as far as that can be loaded.
    pub async fn refreshed(&self) {
        let (done, ended) = oneshot::channel();
        if self.commands.try_send(Command::Refresh(Some(done))).is_ok() {
            let _ = ended.await;
        }
    }

    /// Loads and warms a version before a change of the registry names it, so that the change takes effect at once.
    ///
    /// # Errors
    /// It cannot be loaded: do not make the change. The reason.
    pub async fn prepare(&self, model: &str, version: &str) -> Result<(), String> {
        let (done, ended) = oneshot::channel();
        let (model, version) = (model.to_string(), version.to_string());
        self.ask(Command::Prepare { model, version, done }, ended).await
    }

    /// Takes a model out of memory until the next `load` or start; its registry is not touched.
    ///
    /// # Errors
    /// The model is not served; the reason.
    pub async fn unload(&self, model: &str) -> Result<(), String> {
        let (done, ended) = oneshot::channel();
        self.ask(Command::Serve { model: model.into(), wanted: false, done }, ended).await
    }

    /// Serves a model that was unloaded, or is new.
    ///
    /// # Errors
    /// It cannot be loaded; the reason.
    pub async fn load(&self, model: &str) -> Result<(), String> {
        let (done, ended) = oneshot::channel();
        self.ask(Command::Serve { model: model.into(), wanted: true, done }, ended).await
    }

    async fn ask(&self, command: Command, ended: oneshot::Receiver<Result<(), String>>) -> Result<(), String> {
        self.commands.try_send(command).map_err(|_| "too many changes are under way; try again".to_string())?;
        ended.await.unwrap_or_else(|_| Err("the scorer is shutting down".into()))
    }
}

/// Follows the registry on a thread of its own, which may wait for disks and for models to load.
pub struct Follower {
    source: Arc<dyn Source>,
    loading: Loading,
    scorer: Arc<Scorer>,
    /// Of the models that the settings name; if there are none, every model of the registry is served.
    settings: BTreeMap<String, Arc<ModelSettings>>,
    /// Versions that could not be loaded: the reason, and when they are tried again.
    broken: HashMap<(String, String), (String, Instant)>,
    prepared: HashMap<(String, String), (Arc<ServedVersion>, Instant)>,
    unloaded: BTreeSet<String>,
    /// Named by `load` beyond the settings.
    added: BTreeSet<String>,
    /// Taken out of service; dropped here, once no request holds them, since that may wait for threads.
    retired: Vec<(String, Arc<ServedVersion>)>,
}

impl Follower {
    pub fn new(source: Arc<dyn Source>, scorer: Arc<Scorer>, settings: BTreeMap<String, Arc<ModelSettings>>) -> Self {
        Self {
            loading: Loading::new(Arc::clone(&source), PATIENCE),
            source,
            scorer,
            settings,
            broken: HashMap::new(),
            prepared: HashMap::new(),
            unloaded: BTreeSet::new(),
            added: BTreeSet::new(),
            retired: Vec::new(),
        }
    }

    /// Waits for loads no longer than this.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.loading = Loading::new(Arc::clone(&self.source), patience);
        self
    }

    /// Starts the thread; it ends when every handle is dropped.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(mut self) -> std::io::Result<FollowHandle> {
        let (commands, waiting) = sync_channel(MAX_COMMANDS);
        std::thread::Builder::new().name("follow registry".into()).spawn(move || self.run(&waiting))?;
        Ok(FollowHandle { commands })
    }

    fn run(&mut self, commands: &Receiver<Command>) {
        loop {
            self.refresh(Instant::now());
            match commands.recv_timeout(POLL) {
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn obey(&mut self, command: Command) {
        // Whoever asked may have gone; what was asked for stays done.
        match command {
            Command::Refresh(done) => {
                self.refresh(Instant::now());
                if let Some(done) = done {
                    let _ = done.send(());
                }
            }
            Command::Prepare { model, version, done } => {
                let _ = done.send(self.prepare(&model, &version, Instant::now()));
            }
            Command::Serve { model, wanted, done } => {
                let _ = done.send(self.serve(&model, wanted, Instant::now()));
            }
        }
    }

    fn prepare(&mut self, model: &str, version: &str, now: Instant) -> Result<(), String> {
        self.broken.remove(&key(model, version));
        let served = self.version(model, version, now)?;
        self.prepared.insert(key(model, version), (served, now));
        Ok(())
    }

    fn serve(&mut self, model: &str, wanted: bool, now: Instant) -> Result<(), String> {
        if wanted {
            self.source.state(model)?;
            self.unloaded.remove(model);
            self.added.insert(model.into());
            self.broken.retain(|(broken, _), _| broken != model);
        } else if self.scorer.table().model(model).is_none() {
            return Err(format!("model `{model}` is not served"));
        } else {
            self.unloaded.insert(model.into());
            self.added.remove(model);
        }
        self.refresh(now);
        let missing = self.scorer.table().missing.get(model).cloned();
        if wanted { missing.map_or(Ok(()), Err) } else { Ok(()) }
    }

    /// One look at the registry.
    pub fn refresh(&mut self, now: Instant) {
        let old = self.scorer.table();
        let mut table = Table { started: true, ..Table::default() };
        match self.names() {
            Ok(names) => {
                for name in names {
                    self.follow(&name, &old, &mut table, now);
                }
            }
            Err(reason) => {
                // Its disk is away: what serves goes on.
                tracing::warn!(%reason, "the registry cannot be read");
                table = Table { started: old.started, ..Table::clone(&old) };
            }
        }
        self.retire(&old, &table);
        self.scorer.swap(table);
        self.prepared.retain(|_, (_, since)| now.duration_since(*since) < PREPARED_FOR);
        self.drop_retired();
        self.loading.sweep();
    }

    /// Models to serve: those of the settings, or all.
    fn names(&self) -> Result<BTreeSet<String>, String> {
        let mut names: BTreeSet<String> = match self.settings.is_empty() {
            true => self.source.models()?.into_iter().collect(),
            false => self.settings.keys().cloned().collect(),
        };
        names.extend(self.added.iter().cloned());
        names.retain(|name| !self.unloaded.contains(name));
        Ok(names)
    }

    fn follow(&mut self, name: &str, old: &Table, table: &mut Table, now: Instant) {
        let before = old.model(name);
        let mut keep = |before: Option<Arc<ServedModel>>, reason: Option<String>| match (before, reason) {
            (Some(before), _) => {
                table.models.insert(name.into(), before);
            }
            (None, Some(reason)) => {
                table.missing.insert(name.into(), reason);
            }
            (None, None) => {}
        };
        let state = match self.source.state(name) {
            Ok(state) => state,
            Err(reason) => return keep(before, Some(reason)),
        };
        if before.as_ref().is_some_and(|before| before.state == state && self.is_whole(name, before, now)) {
            return keep(before, None);
        }
        if state.production.is_none() {
            // Of a model that only the registry has, nobody has promised anything yet.
            let promised = self.settings.contains_key(name) || self.added.contains(name);
            return keep(before, promised.then(|| "has no version in production".to_string()));
        }
        match self.load(name, state, before.as_deref(), now) {
            Ok(model) => {
                self.tell(&model);
                table.models.insert(name.into(), Arc::new(model));
            }
            Err(reason) => keep(before, Some(reason)),
        }
    }

    /// Whether every version that the state names is there, or is not to be tried again yet.
    fn is_whole(&self, name: &str, model: &ServedModel, now: Instant) -> bool {
        wanted(&model.state, &model.settings).iter().all(|version| {
            let waits = self.broken.get(&key(name, version)).is_some_and(|(_, retry)| *retry > now);
            model.versions.contains_key(version) || waits
        })
    }

    fn load(
        &mut self,
        name: &str,
        state: ServingState,
        before: Option<&ServedModel>,
        now: Instant,
    ) -> Result<ServedModel, String> {
        let mut versions = BTreeMap::new();
        let own = self.settings_of(name);
        for version in wanted(&state, &own) {
            let held = before.and_then(|before| before.versions.get(&version)).cloned();
            let served = held.map_or_else(|| self.version(name, &version, now), Ok);
            match served {
                Ok(served) => {
                    versions.insert(version, served);
                }
                Err(reason) if state.production.as_ref() == Some(&version) => return Err(reason),
                // Production answers for it.
                Err(_) => {}
            }
        }
        let settings = own;
        let counters = before.map(|before| Arc::clone(&before.counters)).unwrap_or_default();
        let sides = state.canary.as_ref().map(|canary| canary.version.as_str()).zip(state.production.as_deref());
        counters.follow(sides);
        Ok(ServedModel { name: name.into(), state, settings, versions, counters })
    }

    fn settings_of(&self, name: &str) -> Arc<ModelSettings> {
        self.settings.get(name).cloned().unwrap_or_default()
    }

    /// A version from wherever it is at hand, or loaded.
    fn version(&mut self, model: &str, version: &str, now: Instant) -> Result<Arc<ServedVersion>, String> {
        let key = key(model, version);
        if let Some((prepared, _)) = self.prepared.get(&key) {
            return Ok(Arc::clone(prepared));
        }
        if let Some((reason, retry)) = self.broken.get(&key)
            && *retry > now
        {
            return Err(reason.clone());
        }
        let served = self.scorer.table().model(model).and_then(|model| model.versions.get(version).cloned());
        if let Some(served) = served {
            return Ok(served);
        }
        let metrics = self.scorer.metrics();
        let clock = Instant::now();
        let settings = self.settings_of(model);
        match self.loading.load(model, version, &settings) {
            Ok(loaded) => {
                let seconds = clock.elapsed().as_secs_f64();
                metrics.loads.with_label_values(&[model, "ok"]).inc();
                metrics.load_seconds.observe(seconds);
                metrics.loaded_versions.with_label_values(&[model, version]).set(1);
                tracing::info!(model, version, engine = loaded.backend.engine(), seconds, "loaded and warm");
                self.broken.remove(&key);
                Ok(Arc::new(ServedVersion::new(model, version, loaded, metrics)))
            }
            Err(reason) => {
                metrics.loads.with_label_values(&[model, "failed"]).inc();
                // A server that is away would fill the log with the same line.
                if self.broken.get(&key).is_none_or(|(before, _)| *before != reason) {
                    tracing::error!(model, version, %reason, "cannot be loaded; what served before goes on");
                }
                let took = clock.elapsed();
                let retry = now + took + pause(&settings, took);
                self.broken.insert(key, (reason.clone(), retry));
                Err(reason)
            }
        }
    }

    fn tell(&self, model: &ServedModel) {
        let metrics = self.scorer.metrics();
        let generation = i64::try_from(model.state.generation).unwrap_or(i64::MAX);
        metrics.generation.with_label_values(&[&model.name]).set(generation);
        let buckets = model.state.canary.as_ref().map_or(0, |canary| canary.buckets);
        metrics.canary_ratio.with_label_values(&[&model.name]).set(f64::from(buckets) / 10_000.0);
        tracing::info!(
            model = model.name,
            generation,
            production = model.state.production.as_deref().unwrap_or("none"),
            canary = model.state.canary.as_ref().map_or("none", |canary| canary.version.as_str()),
            shadow = model.state.shadow.as_deref().unwrap_or("none"),
            "serving"
        );
    }

    fn retire(&mut self, old: &Table, new: &Table) {
        for (name, model) in &old.models {
            let now = new.models.get(name);
            for (version, served) in &model.versions {
                if now.is_none_or(|now| !now.versions.contains_key(version)) {
                    tracing::info!(model = name, version, "taken out of memory");
                    self.retired.push((name.clone(), Arc::clone(served)));
                }
            }
        }
    }

    fn drop_retired(&mut self) {
        let table = self.scorer.table();
        let metrics = self.scorer.metrics();
        self.retired.retain(|(model, served)| {
            if Arc::strong_count(served) > 1 {
                return true;
            }
            // It may have come back as another load meanwhile.
            let is_back = table.model(model).is_some_and(|model| model.versions.contains_key(&served.version));
            if !is_back {
                metrics.forget_version(model, &served.version);
            }
            false
        });
    }
}

/// Until a version is tried again whose attempt to load took so long.
fn pause(settings: &ModelSettings, took: Duration) -> Duration {
    let Some(proxy) = &settings.proxy else { return RETRY };
    proxy.health_interval.to_std().max(took * SHARE_OF_RETRIES).min(RETRY)
}

fn key(model: &str, version: &str) -> (String, String) {
    (model.to_string(), version.to_string())
}

/// The versions that a state needs in memory, production first: without it the others are not needed.
fn wanted(state: &ServingState, settings: &ModelSettings) -> Vec<String> {
    let canary = state.canary.as_ref().map(|canary| &canary.version);
    let named = [state.production.as_ref(), canary, state.previous.as_ref(), state.shadow.as_ref()];
    let named = named.into_iter().flatten().map(String::as_str);
    let mut versions: Vec<String> = Vec::new();
    for version in named.chain(experiment_versions(&settings.traffic)) {
        if !versions.iter().any(|earlier| earlier == version) {
            versions.push(version.to_string());
        }
    }
    versions
}
