//! The pages of one process: the thread that follows the log for them, and the server. A reload leaves both running and
//! changes what they know of the configuration.

use std::sync::{Arc, PoisonError, RwLock};

use super::service::{Assembly, now_ms};
use super::threads::Threads;
use crate::config::service::Service;
use crate::dispatch::delivery::{DeliveryRecord, DeliveryStatus};
use crate::http::access::Access;
use crate::http::follow::{self, Follow, FollowHandle};
use crate::http::metrics::Watched;
use crate::http::readiness::Readiness;
use crate::http::server::{AppState, Configured, Operations, serve};
use crate::http::view::{self, View};
use crate::http::write::ReloadSender;
use crate::log::LogError;
use crate::log::topics::Topics;

pub struct Pages {
    pub view: Arc<RwLock<View>>,
    configured: Arc<RwLock<Arc<Configured>>>,
    follow: FollowHandle,
}

impl Pages {
    /// Both end with `threads`.
    pub fn start(
        assembly: &Assembly,
        readiness: &Readiness,
        runtime: &tokio::runtime::Handle,
        listener: Option<tokio::net::TcpListener>,
        reload: Option<ReloadSender>,
        threads: &mut Threads,
    ) -> Result<Self, String> {
        let topics = Topics::new(&assembly.service.app);
        let view = Arc::new(RwLock::new(View::default()));
        let (follow, thread) = follow::spawn(Follow {
            log: assembly.log.clone(),
            topics: topics.clone(),
            view: view.clone(),
            decode_delivery: Box::new(decode_delivery),
            metrics: assembly.metrics.clone(),
        })
        .map_err(|error| format!("cannot start the pages: {error}"))?;
        threads.start(
            "pages",
            Box::new(move || match thread.join() {
                Ok(result) => result,
                Err(_) => Err(LogError::Fatal("panicked".into())),
            }),
        )?;
        let configured = configured(&assembly.service, assembly.watched.clone())?.shared();
        if let Some(listener) = listener {
            let state = AppState {
                view: view.clone(),
                follow: follow.clone(),
                metrics: assembly.metrics.clone(),
                configured: configured.clone(),
                readiness: readiness.clone(),
                operations: Some(Operations { log: assembly.log.clone(), topics }),
                reload,
                now_ms,
            };
            let shutdown = threads.stop.clone().cancelled_owned();
            runtime.spawn(async move {
                if let Err(error) = serve(state, listener, shutdown).await {
                    tracing::error!(%error, "pages: the server ended");
                }
            });
        }
        Ok(Self { view, configured, follow })
    }

    /// From the next request on.
    pub fn configure(&self, configured: Configured) {
        *self.configured.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(configured);
    }

    /// The thread ends within one poll.
    pub fn stop(&self) {
        self.follow.stop();
    }
}

/// What requests see of a configuration; the error names the tokens that cannot be had.
pub fn configured(service: &Service, watched: Watched) -> Result<Configured, String> {
    let access = Access::new(&service.http).map_err(|errors| errors.join("\nerror: "))?;
    Ok(Configured { watched, access, series_budget: service.http.series_budget })
}

fn decode_delivery(value: &[u8]) -> Result<Option<view::Delivery>, String> {
    let record: DeliveryRecord = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    Ok(Some(view::Delivery {
        notification_id: record.notification.id.clone(),
        receiver: record.receiver,
        status: match record.status {
            DeliveryStatus::Pending if record.held_by.is_some() || record.digest.is_some() => {
                view::DeliveryStatus::Held
            }
            DeliveryStatus::Pending => view::DeliveryStatus::Retrying,
            DeliveryStatus::Delivered => view::DeliveryStatus::Delivered,
            DeliveryStatus::Failed | DeliveryStatus::Expired => view::DeliveryStatus::Failed,
            DeliveryStatus::Superseded => view::DeliveryStatus::Superseded,
        },
        attempts: record.attempts,
        last_error: record.last_error,
        at_ms: record.delivered_at_ms.unwrap_or(record.first_at_ms),
    }))
}
