//! Queue, writer and producer as the settings say.

use std::sync::Arc;
use std::time::Duration;

use crate::config::scorer::ScorerConfig;
use crate::log::LogError;
use crate::log::kafka::{KafkaLog, KafkaOptions, StreamOptions};

use super::kafka::KafkaTransport;
use super::transport::Transport;
use super::{EventCounts, EventLimits, EventQueue, EventWriter, LayoutOptions};

/// Running events: offer to `queue`, and close at the end.
pub struct Events {
    pub queue: Arc<EventQueue>,
    writer: EventWriter,
    close_timeout: Duration,
}

impl Events {
    /// Starts what writes events; `None` where the settings turn them off. Does not wait for a broker, and needs none.
    ///
    /// # Errors
    /// A Kafka property is wrong or its secret cannot be read; the system has no thread left.
    pub fn start(config: &ScorerConfig) -> Result<Option<Self>, LogError> {
        let settings = &config.events;
        if !settings.enabled {
            return Ok(None);
        }
        let log = KafkaLog::new(KafkaOptions {
            bootstrap_servers: config.kafka.bootstrap_servers.clone(),
            client_id: "driftline-scorer".into(),
            instance: None,
            properties: config.kafka.properties.clone(),
        })?;
        let options = StreamOptions {
            // The queue in front is the bound; the producer's own never is.
            max_records: settings.max_rows.saturating_mul(2),
            max_bytes: settings.max_bytes.saturating_mul(2),
            linger: settings.linger.to_std(),
            delivery_timeout: settings.delivery_timeout.to_std(),
        };
        let transport = Box::new(KafkaTransport::new(&log, options)?);
        Self::on(config, transport).map(Some)
    }

    /// As `start`, to any transport.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn on(config: &ScorerConfig, transport: Box<dyn Transport>) -> Result<Self, LogError> {
        let settings = &config.events;
        let limits = EventLimits { max_rows: settings.max_rows, max_bytes: settings.max_bytes };
        let queue = Arc::new(EventQueue::new(limits));
        let no_thread = |error| LogError::Fatal(format!("no thread for prediction events: {error}"));
        let writer = EventWriter::start(queue.clone(), transport).map_err(no_thread)?;
        Ok(Self { queue, writer, close_timeout: settings.close_timeout.to_std() })
    }

    /// Sends what waits, for at most `events.close_timeout`, and gives the final counts. Blocks.
    pub fn close(&self) -> EventCounts {
        self.writer.close(self.close_timeout)
    }
}

/// How the settings want the events of one model's versions. `transform_id`: of the version's feature transform.
pub fn layout_options(config: &ScorerConfig, model: &str, transform_id: Option<&str>) -> LayoutOptions {
    let own = config.models.get(model).map(|model| model.events.clone()).unwrap_or_default();
    LayoutOptions {
        topic: own.topic.unwrap_or_else(|| config.events.topic.clone()),
        shadow_topic: own.shadow_topic,
        feature_names: own.features,
        score: own.score,
        prediction: own.prediction,
        transform_id: transform_id.map(str::to_string),
        sample: own.sample,
    }
}
