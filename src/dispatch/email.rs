//! E-mail by SMTP: text and HTML with a chart of what moved, one message per notification, threaded by episode.
//!
//! Every address of a receiver gets its own SMTP transaction: one dead mailbox must not keep the alert from the
//! others. The message is the same for all and names them all.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use super::digest::Digest;
use super::digest_message::DigestMessage;
use super::receiver::{DeliveryContext, Outcome, ReceiverError, Telling, Transport};
use super::render::Shown;
use super::{render, secret};
use crate::chart;
use crate::chart::picture::{self, Picture};
use crate::config::receivers::{Attachment, EmailReceiver};
use crate::config::service::Smtp;
use crate::rules::episode::{EpisodeStatus, Notification};
use crate::rules::explanation::Moved;
use crate::stats::metric::BinShare;

/// Longest wait for one SMTP reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses remembered that have accepted a notification which others have yet to.
const MAX_PARTLY_DELIVERED: usize = 1_000;

type Connection = AsyncSmtpTransport<Tokio1Executor>;

/// Why one address did not take the message.
enum Refusal {
    /// A 5xx reply (RFC 5321, 4.2.1).
    ForGood(String),
    /// A 4xx reply.
    ForNow(String),
    /// No reply at all: the other addresses would fare no better.
    NoServer(String),
}

pub struct EmailTransport {
    from: Mailbox,
    to: Vec<Mailbox>,
    attach: Attachment,
    server: lettre::transport::smtp::AsyncSmtpTransportBuilder,
    /// Made at the first delivery, with the runtime it was made on: the pool spawns tasks when it is made, and
    /// again when it is dropped.
    connection: OnceCell<(Connection, Handle)>,
    partly_delivered: Mutex<PartlyDelivered>,
}

impl EmailTransport {
    pub fn new(receiver: &str, config: &EmailReceiver, smtp: &Smtp) -> Result<Self, ReceiverError> {
        let invalid = |reason: String| ReceiverError::Invalid { receiver: receiver.to_string(), reason };
        let mailbox = |text: &str| {
            text.parse::<Mailbox>().map_err(|error| invalid(format!("`{text}` is not an e-mail address: {error}")))
        };
        let from = mailbox(&smtp.from)?;
        let to = config.to.iter().map(|text| mailbox(text)).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err(invalid("`to` names no e-mail address".into()));
        }
        // The URL is not shown: it may hold a password.
        let url = reqwest::Url::parse(&smtp.url).map_err(|error| invalid(format!("`smtp.url`: {error}")))?;
        let mut server = Connection::from_url(&smtp.url).map_err(|error| invalid(format!("`smtp.url`: {error}")))?;
        let password = smtp
            .password
            .as_ref()
            .map(secret::resolve)
            .transpose()
            .map_err(|error| ReceiverError::Secret { receiver: receiver.to_string(), error })?;
        let has_credentials = match (&smtp.username, password) {
            (Some(username), Some(password)) => {
                server = server.credentials(Credentials::new(username.clone(), password));
                true
            }
            (None, None) => url.password().is_some(),
            _ => return Err(invalid("`smtp.username` and `smtp.password` belong together".into())),
        };
        if has_credentials && !is_private_to_the_wire(&url) {
            return Err(invalid("the SMTP password would go unencrypted; use smtps:// or `?tls=required`".into()));
        }
        Ok(Self {
            from,
            to,
            attach: config.attach,
            server: server.timeout(Some(REPLY_TIMEOUT)),
            connection: OnceCell::new(),
            partly_delivered: Mutex::new(PartlyDelivered::default()),
        })
    }

    /// The message, the same at every attempt but for its date.
    pub fn message(
        &self,
        notification: &Notification,
        context: &DeliveryContext,
        date: SystemTime,
    ) -> Result<Message, lettre::error::Error> {
        let (url, telling) = (context.episode_url(notification), &context.telling);
        let subject = render::thread_subject(notification, telling);
        let first = self.message_id(&format!("{}-0", notification.episode_id));
        let is_answer = self.message_id(&notification.id) != first && !matches!(telling, Telling::Heartbeat { .. });
        let message = match is_answer {
            false => self.builder(&notification.id, &subject, date),
            true => {
                let answer = self.builder(&notification.id, &format!("Re: {subject}"), date);
                answer.in_reply_to(first.clone()).references(first)
            }
        };
        let text = SinglePart::plain(render::text(notification, &url, telling));
        let chart = if self.attach == Attachment::Chart { chart_of(notification) } else { None };
        let content_id = format!("chart.{}", self.message_id(&notification.id).trim_matches(['<', '>']));
        let chart = chart.and_then(|chart| Some((inline_png(content_id.clone(), chart.picture.png.clone())?, chart)));
        let Some((png, Chart { picture, caption })) = chart else {
            let html = SinglePart::html(render::html(notification, &url, telling, None));
            return message.multipart(MultiPart::alternative().singlepart(text).singlepart(html));
        };
        let source = format!("cid:{content_id}");
        let shown = Shown { source: &source, width: picture.width, height: picture.height, caption: &caption };
        let html = SinglePart::html(render::html(notification, &url, telling, Some(&shown)));
        let with_picture = MultiPart::related().singlepart(html).singlepart(png);
        message.multipart(MultiPart::alternative().singlepart(text).multipart(with_picture))
    }

    /// What was collected, as one message.
    pub fn digest_message(
        &self,
        digest: &Digest,
        context: &DeliveryContext,
        date: SystemTime,
    ) -> Result<Message, lettre::error::Error> {
        let content = DigestMessage::of(digest, context);
        let message = self.builder(&digest.id, &content.subject(), date);
        message.multipart(MultiPart::alternative_plain_html(content.text(), content.html()))
    }

    fn message_id(&self, id: &str) -> String {
        format!("<{id}@driftline.{}>", self.from.email.domain())
    }

    fn builder(&self, id: &str, subject: &str, date: SystemTime) -> MessageBuilder {
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(subject)
            .message_id(Some(self.message_id(id)))
            .date(date)
            .raw_header(header("Auto-Submitted", "auto-generated"))
            .raw_header(header("X-Auto-Response-Suppress", "All"));
        for mailbox in &self.to {
            message = message.to(mailbox.clone());
        }
        message
    }

    /// To every address that has not accepted it before. `id`: what they know it by.
    async fn send(&self, id: &str, message: Result<Message, lettre::error::Error>) -> Outcome {
        let message = match message {
            Ok(message) => message.formatted(),
            Err(error) => return Outcome::permanent(format!("cannot write the message: {error}")),
        };
        let mut refused = Vec::new();
        let mut retry = None;
        for mailbox in &self.to {
            let address = &mailbox.email;
            if self.partly_delivered().holds(id, address.as_ref()) {
                continue;
            }
            match self.send_to(address, &message).await {
                Ok(()) => self.partly_delivered().insert(id, address.as_ref()),
                Err(Refusal::ForGood(reason)) => refused.push(reason),
                Err(Refusal::ForNow(reason)) => retry = Some(reason),
                Err(Refusal::NoServer(reason)) => return Outcome::retry(reason),
            }
        }
        if let Some(reason) = retry {
            return Outcome::retry(reason);
        }
        self.partly_delivered().forget(id);
        if refused.len() == self.to.len() {
            return Outcome::permanent(refused.join("; "));
        }
        Outcome::Delivered { remark: (!refused.is_empty()).then(|| format!("refused by {}", refused.join("; "))) }
    }

    async fn send_to(&self, address: &Address, message: &[u8]) -> Result<(), Refusal> {
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![address.clone()])
            .map_err(|error| Refusal::ForGood(error.to_string()))?;
        let (connection, _) =
            self.connection.get_or_init(async || (self.server.clone().build(), Handle::current())).await;
        match connection.send_raw(&envelope, message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(Refusal::ForGood(format!("{address}: {error}"))),
            Err(error) if error.is_transient() => Err(Refusal::ForNow(format!("{address}: {error}"))),
            Err(error) => Err(Refusal::NoServer(error.to_string())),
        }
    }

    fn partly_delivered(&self) -> std::sync::MutexGuard<'_, PartlyDelivered> {
        self.partly_delivered.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for EmailTransport {
    fn drop(&mut self) {
        if let Some((connection, runtime)) = self.connection.take() {
            let _entered = runtime.enter();
            drop(connection);
        }
    }
}

#[async_trait]
impl Transport for EmailTransport {
    async fn deliver(&self, notification: &Notification, context: &DeliveryContext) -> Outcome {
        self.send(&notification.id, self.message(notification, context, SystemTime::now())).await
    }

    async fn deliver_digest(&self, digest: &Digest, context: &DeliveryContext) -> Outcome {
        self.send(&digest.id, self.digest_message(digest, context, SystemTime::now())).await
    }
}

struct Chart {
    picture: Picture,
    caption: String,
}

/// The bins or categories of the worst finding that moved most. Mail clients show neither SVG nor data URIs.
fn chart_of(notification: &Notification) -> Option<Chart> {
    if notification.status == EpisodeStatus::Resolved {
        return None;
    }
    let worst = render::worst_first(notification);
    let finding = worst.into_iter().find(|finding| !finding.moved.is_empty())?;
    let caption = format!("What moved most in {}: reference and window", render::subject_of(finding));
    let bins: Vec<BinShare> = finding.moved.iter().map(Moved::bin).collect();
    let bins: Vec<BinShare> =
        bins.into_iter().map(|bin| BinShare { label: render::clean(&bin.label), ..bin }).collect();
    let svg = chart::shares(&bins, &caption).into_string();
    // Without the picture the message says the same.
    let picture =
        picture::draw(&svg).inspect_err(|error| tracing::warn!(%error, "the chart of a mail cannot be drawn"));
    Some(Chart { picture: picture.ok()?, caption })
}

/// The part of a mail that its HTML shows.
fn inline_png(content_id: String, png: Vec<u8>) -> Option<SinglePart> {
    let kind = ContentType::parse("image/png").ok()?;
    Some(lettre::message::Attachment::new_inline(content_id).body(png, kind))
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_string())
}

/// Whether nobody can read the password on its way: encrypted, or never leaving the machine.
fn is_private_to_the_wire(url: &reqwest::Url) -> bool {
    let is_encrypted =
        url.scheme() == "smtps" || url.query_pairs().any(|(key, value)| key == "tls" && value == "required");
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    is_encrypted || is_local
}

/// Who has accepted a notification that others of the same receiver have yet to accept. Kept in memory only: after
/// a restart these addresses get one more copy with the same Message-ID.
#[derive(Debug, Default)]
struct PartlyDelivered {
    order: VecDeque<(String, String)>,
    known: BTreeSet<(String, String)>,
}

impl PartlyDelivered {
    fn holds(&self, notification_id: &str, address: &str) -> bool {
        self.known.contains(&(notification_id.to_string(), address.to_string()))
    }

    fn insert(&mut self, notification_id: &str, address: &str) {
        let place = (notification_id.to_string(), address.to_string());
        if self.known.insert(place.clone()) {
            self.order.push_back(place);
        }
        if self.order.len() > MAX_PARTLY_DELIVERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn forget(&mut self, notification_id: &str) {
        self.known.retain(|(id, _)| id != notification_id);
        self.order.retain(|(id, _)| id != notification_id);
    }
}
