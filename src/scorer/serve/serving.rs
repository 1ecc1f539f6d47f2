//! This process, as the admin API sees it.

use std::sync::Arc;

use async_trait::async_trait;

use super::Scorer;
use super::follow::FollowHandle;
use crate::scorer::admin::{LoadedVersion, Serving};

pub struct Here {
    pub scorer: Arc<Scorer>,
    pub follow: FollowHandle,
}

#[async_trait]
impl Serving for Here {
    async fn prepare(&self, model: &str, version: &str) -> Result<(), String> {
        self.follow.prepare(model, version).await
    }

    fn changed(&self, _model: &str) {
        self.follow.notify();
    }

    fn loaded(&self, model: &str) -> Vec<LoadedVersion> {
        let Some(model) = self.scorer.table().model(model) else { return Vec::new() };
        let loaded = |version: &str, ready: bool| LoadedVersion {
            version: version.to_string(),
            ready: if ready { Ok(()) } else { Err("it does not answer".to_string()) },
        };
        model.versions.values().map(|version| loaded(&version.version, version.backend.ready())).collect()
    }

    async fn load(&self, model: &str) -> Result<(), String> {
        self.follow.load(model).await
    }

    async fn unload(&self, model: &str) -> Result<(), String> {
        self.follow.unload(model).await
    }
}
