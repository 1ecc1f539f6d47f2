//! Removing versions that nobody will ask for any more.

use super::state::ServingState;
use super::store::{INCOMING, Registry, RegistryError, VERSIONS};

impl Registry {
    /// Removes all versions but those that serve in any place, the one before, and the `keep` newest; gives those removed.
    ///
    /// # Errors
    /// There is no such model, or the disk is read-only.
    pub fn collect(&self, model: &str, keep: usize, dry_run: bool) -> Result<Vec<String>, RegistryError> {
        let dir = self.model_dir(model)?;
        // The first lock holds off registrations, the second one changes: what is removed cannot come to serve meanwhile.
        let _registering = self.lock(model, "register")?;
        let _changing = self.lock(model, "state")?;
        let versions = self.versions(model)?;
        let state = self.state(model)?;
        // The highest number stays, so that numbers are never given twice.
        let newest = versions.len().saturating_sub(keep.max(1));
        let removed: Vec<String> =
            versions.into_iter().take(newest).filter(|version| !serves(&state, version)).collect();
        if dry_run || removed.is_empty() {
            return Ok(removed);
        }
        let (there, leaving) = (dir.dir(VERSIONS)?, dir.make_dir(INCOMING)?);
        for version in &removed {
            leaving.remove_if_there(version)?;
            // First out of sight as a whole: a crash leaves no half of a version.
            there.dir(version)?.unprotect()?;
            there.move_dir(version, &leaving, version)?;
            leaving.remove(version)?;
        }
        Ok(removed)
    }
}

fn serves(state: &ServingState, version: &str) -> bool {
    let canary = state.canary.as_ref().map(|canary| &canary.version);
    [state.production.as_ref(), state.previous.as_ref(), canary, state.shadow.as_ref()]
        .into_iter()
        .flatten()
        .any(|serving| serving == version)
}
