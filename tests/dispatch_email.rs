//! E-mail over the wire: to the catcher in every `cargo test`, to a real SMTP server in CI.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dispatch_support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use dispatch_support::role_harness::Harness;
use dispatch_support::{notification, samples};
use driftline::config::receivers::{Attachment, EmailReceiver, Receiver, Secret};
use driftline::config::service::Smtp;
use driftline::dispatch::catcher::{CaughtMail, MailCatcher};
use driftline::dispatch::delivery::DeliveryStatus;
use driftline::dispatch::receiver::{
    DeliveryContext, Means, Outcome, ReceiverError, Receivers, Telling, Transport, build,
};

const FROM: &str = "Driftline <alerts@example.com>";

fn smtp(url: &str) -> Smtp {
    Smtp { url: url.into(), from: FROM.into(), username: None, password: None }
}

fn try_transport(to: &[&str], smtp: &Smtp) -> Result<Box<dyn Transport>, ReceiverError> {
    let to = to.iter().map(ToString::to_string).collect();
    build(
        "mail",
        &Receiver { email: Some(EmailReceiver { to, ..EmailReceiver::default() }), ..Receiver::default() },
        Means { smtp: Some(smtp), log: None },
    )
}

fn transport(to: &[&str], smtp: &Smtp) -> Box<dyn Transport> {
    try_transport(to, smtp).unwrap()
}

fn receivers(to: &[&str], smtp: &Smtp) -> Arc<Receivers> {
    Arc::new(BTreeMap::from([("mail".to_string(), transport(to, smtp))]))
}

fn context() -> DeliveryContext {
    DeliveryContext { public_url: "http://drift.test".into(), attempt: 1, telling: Telling::News }
}

fn header(raw: &str, name: &str) -> Option<String> {
    let mail = CaughtMail { from: String::new(), to: vec![], raw: raw.into(), received_at_ms: 0, path: None };
    mail.header(name)
}

#[tokio::test]
async fn a_mail_is_text_and_html_with_a_stable_id_and_threads_by_episode() {
    let directory = tempfile::tempdir().unwrap();
    let catcher = MailCatcher::start(0, Some(directory.path())).await.unwrap();
    let mail = transport(&["ml@example.com", "Team <team@example.com>"], &smtp(&catcher.url()));
    for sequence in [0, 1, 0] {
        let outcome = mail.deliver(&notification("e", sequence, &["mail"]), &context()).await;
        assert_eq!(outcome, Outcome::Delivered { remark: None });
    }
    let mails = catcher.wait_for(6, Duration::from_secs(5)).await;
    assert_eq!(mails.len(), 6, "three notifications, two addresses");
    let (first, resolved, again) = (&mails[0], &mails[2], &mails[4]);
    assert_eq!((first.from.as_str(), &first.to), ("alerts@example.com", &vec!["ml@example.com".to_string()]));
    assert_eq!(mails[1].to, ["team@example.com"]);
    assert_eq!(mails[1].raw, first.raw, "everyone gets the same message");
    let of = |mail: &CaughtMail, name: &str| mail.header(name).unwrap_or_default();
    assert_eq!(of(first, "Message-ID"), "<e-0@driftline.example.com>");
    assert_eq!(of(again, "Message-ID"), of(first, "Message-ID"));
    assert_eq!(of(resolved, "Message-ID"), "<e-1@driftline.example.com>");
    assert_eq!(of(resolved, "In-Reply-To"), "<e-0@driftline.example.com>");
    assert_eq!(of(resolved, "References"), "<e-0@driftline.example.com>");
    assert_eq!(first.header("In-Reply-To"), None);
    assert_eq!(of(first, "Auto-Submitted"), "auto-generated");
    assert_eq!(of(first, "Subject"), "fraud@3: feature-drift");
    assert_eq!(of(resolved, "Subject"), "Re: fraud@3: feature-drift");
    assert!(of(first, "Content-Type").starts_with("multipart/alternative"), "{}", first.raw);
    for part in ["text/plain", "text/html", "http://drift.test/alerts/e", "What to do next"] {
        assert!(first.raw.contains(part), "{part} is missing in {}", first.raw);
    }
    let stored = std::fs::read_to_string(first.path.as_ref().unwrap()).unwrap();
    assert_eq!(stored, first.raw);
}

/// The bytes of the picture in a mail.
fn picture(raw: &str) -> Vec<u8> {
    let (_, part) = raw.split_once("Content-Type: image/png").unwrap_or_else(|| panic!("no picture in {raw}"));
    let (_, body) = part.split_once("\r\n\r\n").unwrap();
    let base64: String = body.split("--").next().unwrap().chars().filter(|c| !c.is_whitespace()).collect();
    BASE64_STANDARD.decode(base64).unwrap()
}

#[tokio::test]
async fn a_mail_shows_what_moved_as_a_picture_that_its_html_names() {
    let catcher = MailCatcher::start(0, None).await.unwrap();
    let mail = transport(&["ml@example.com"], &smtp(&catcher.url()));
    assert_eq!(mail.deliver(&samples::firing(), &context()).await.label(), "delivered");
    let raw = catcher.wait_for(1, Duration::from_secs(5)).await.remove(0).raw;
    let unfolded = raw.replace("\r\n ", " ");
    let id = unfolded.split("Content-ID: <").nth(1).unwrap().split('>').next().unwrap();
    assert_eq!(id, "chart.9f2c41-0@driftline.example.com");
    assert!(unfolded.contains("multipart/related") && unfolded.contains("Content-Disposition: inline"), "{raw}");
    // Quoted-printable writes `=` as `=3D` and folds lines with `=`.
    let html = raw.replace("=\r\n", "").replace("=3D", "=");
    assert!(html.contains(&format!("src=\"cid:{id}\"")), "{html}");
    let png = picture(&raw);
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    if let Some(directory) = std::env::var_os("DRIFTLINE_KEEP_MAIL") {
        std::fs::write(Path::new(&directory).join("chart.png"), &png).unwrap();
        std::fs::write(Path::new(&directory).join("mail.eml"), &raw).unwrap();
    }
    // Nothing is drawn of an alert that is over, nor where nobody wants it.
    assert_eq!(mail.deliver(&samples::resolved(), &context()).await.label(), "delivered");
    let plain = EmailReceiver { to: vec!["ml@example.com".into()], attach: Attachment::None };
    let receiver = Receiver { email: Some(plain), ..Receiver::default() };
    let server = smtp(&catcher.url());
    let plain = build("mail", &receiver, Means { smtp: Some(&server), log: None }).unwrap();
    assert_eq!(plain.deliver(&samples::firing(), &context()).await.label(), "delivered");
    let mails = catcher.wait_for(3, Duration::from_secs(5)).await;
    assert!(mails[1..].iter().all(|mail| !mail.raw.contains("image/png")), "{}", mails[2].raw);
}

#[tokio::test]
async fn a_digest_is_one_mail_and_a_reminder_answers_the_first() {
    let catcher = MailCatcher::start(0, None).await.unwrap();
    let mail = transport(&["ml@example.com"], &smtp(&catcher.url()));
    assert_eq!(mail.deliver_digest(&samples::digest(), &context()).await, Outcome::Delivered { remark: None });
    let mut reminder = samples::firing();
    reminder.id = "9f2c41-r1-mail".into();
    let told = DeliveryContext { telling: Telling::Reminder { number: 1 }, ..context() };
    assert_eq!(mail.deliver(&reminder, &told).await.label(), "delivered");
    let beat = DeliveryContext { telling: Telling::Heartbeat { every_ms: 60_000 }, ..context() };
    assert_eq!(mail.deliver(&samples::heartbeat(), &beat).await.label(), "delivered");
    let mails = catcher.wait_for(3, Duration::from_secs(5)).await;
    let of = |place: usize, name: &str| mails[place].header(name);
    assert_eq!(of(0, "Subject").unwrap(), "Driftline: 3 alerts fire, 1 is over");
    assert_eq!(of(0, "Message-ID").unwrap(), "<digest-slack-1767312000000@driftline.example.com>");
    assert_eq!(of(1, "Message-ID").unwrap(), "<9f2c41-r1-mail@driftline.example.com>");
    assert_eq!(of(1, "References").unwrap(), "<9f2c41-0@driftline.example.com>");
    assert_eq!((of(2, "Subject").unwrap().as_str(), of(2, "In-Reply-To")), ("Driftline works", None));
}

#[tokio::test]
async fn replies_are_classified_by_their_first_digit() {
    let catcher = MailCatcher::start(0, None).await.unwrap();
    let mail = transport(&["ml@example.com"], &smtp(&catcher.url()));
    for (reply, expected) in
        [("450 4.2.1 busy", "retry"), ("452 4.3.1 full", "retry"), ("550 5.1.1 unknown", "permanent")]
    {
        catcher.refuse_next(1, reply);
        let outcome = mail.deliver(&notification("e", 0, &[]), &context()).await;
        assert_eq!(outcome.label(), expected, "{reply}: {outcome:?}");
    }
    assert_eq!(mail.deliver(&notification("e", 0, &[]), &context()).await.label(), "delivered");
    let url = catcher.url();
    drop(catcher);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let nobody = transport(&["ml@example.com"], &smtp(&url));
    assert_eq!(nobody.deliver(&notification("e", 0, &[]), &context()).await.label(), "retry");
}

#[tokio::test]
async fn one_dead_mailbox_keeps_the_alert_from_nobody_else() {
    let catcher = MailCatcher::start(0, None).await.unwrap();
    let mail = transport(&["gone@example.com", "ml@example.com"], &smtp(&catcher.url()));
    catcher.refuse_next(1, "550 5.1.1 no such user");
    match mail.deliver(&notification("e", 0, &[]), &context()).await {
        Outcome::Delivered { remark: Some(remark) } => {
            assert!(remark.contains("gone@example.com") && remark.contains("no such user"), "{remark}");
        }
        other => panic!("{other:?}"),
    }
    // A mailbox that is only busy gets it later; who has it does not get it again.
    catcher.refuse_next(1, "450 4.2.1 busy");
    let second = notification("e", 1, &[]);
    assert_eq!(mail.deliver(&second, &context()).await.label(), "retry");
    assert_eq!(mail.deliver(&second, &context()).await, Outcome::Delivered { remark: None });
    let arrived: Vec<String> = catcher.mails().into_iter().flat_map(|mail| mail.to).collect();
    assert_eq!(arrived, ["ml@example.com", "ml@example.com", "gone@example.com"]);
}

#[test]
fn a_mail_server_that_is_down_for_a_while_is_told_everything_in_order() {
    let harness = Harness::new();
    let catcher = harness.runtime.block_on(MailCatcher::start(0, None)).unwrap();
    catcher.refuse_all(Some("421 4.3.2 closing"));
    let role = harness.start("0", &receivers(&["ml@example.com"], &smtp(&catcher.url())), None);
    for sequence in 0..3 {
        harness.publish(&[notification("a", sequence, &["mail"]), notification("b", sequence, &["mail"])]);
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(catcher.mails(), []);
    catcher.refuse_all(None);
    let deliveries = harness.wait_until_final(6);
    role.stop().unwrap();
    for episode in ["a", "b"] {
        // It fired and was over while no mail could be sent: one mail says both. Then it fired again.
        let status = |sequence: u32| deliveries[&format!("{episode}-{sequence}|mail")].status;
        let expected = [DeliveryStatus::Superseded, DeliveryStatus::Delivered, DeliveryStatus::Delivered];
        assert_eq!([status(0), status(1), status(2)], expected);
        let ids: Vec<String> = catcher
            .mails()
            .iter()
            .filter_map(|mail| mail.header("Message-ID"))
            .filter(|id| id.starts_with(&format!("<{episode}-")))
            .collect();
        assert_eq!(ids, (1..3).map(|s| format!("<{episode}-{s}@driftline.example.com>")).collect::<Vec<_>>());
    }
}

#[test]
fn a_receiver_that_cannot_work_is_refused_at_the_start() {
    let refusal = |to: &[&str], smtp: &Smtp| try_transport(to, smtp).err().map(|error| error.to_string());
    let good = smtp("smtp://mail.example.com:25");
    assert_eq!(refusal(&["ml@example.com"], &good), None);
    assert!(refusal(&[], &good).unwrap().contains("no e-mail address"));
    assert!(refusal(&["nobody"], &good).unwrap().contains("`nobody`"));
    assert!(refusal(&["ml@example.com"], &smtp("http://mail")).unwrap().contains("smtp.url"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "pw").unwrap();
    let password = Some(Secret { env: None, file: Some(file.path().display().to_string()) });
    let with = |url: &str| Smtp { username: Some("me".into()), password: password.clone(), ..smtp(url) };
    assert!(refusal(&["ml@example.com"], &with("smtp://mail.example.com")).unwrap().contains("unencrypted"));
    for url in ["smtps://mail.example.com", "smtp://mail.example.com?tls=required", "smtp://127.0.0.1:2525"] {
        assert_eq!(refusal(&["ml@example.com"], &with(url)), None, "{url}");
    }
}

/// The server of `scripts/smtp.sh`, in a directory of its own.
struct RealServer {
    directory: tempfile::TempDir,
    port: u16,
}

impl RealServer {
    fn new() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { directory: tempfile::tempdir().unwrap(), port }
    }

    fn control(&self, verb: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/smtp.sh");
        let status = Command::new(script).arg(verb).arg(self.directory.path()).arg(self.port.to_string()).status();
        assert!(status.unwrap().success(), "scripts/smtp.sh {verb} failed");
    }

    fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// Message-IDs and files in the Maildir, in order of delivery, once there are `count`.
    fn wait_for(&self, count: usize) -> Vec<(String, PathBuf)> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut found = Vec::new();
            for entry in std::fs::read_dir(self.directory.path().join("Maildir/new")).into_iter().flatten() {
                let path = entry.unwrap().path();
                let raw = std::fs::read_to_string(&path).unwrap().replace('\n', "\r\n");
                let id = header(&raw, "Message-ID").unwrap_or_else(|| panic!("no Message-ID in {raw}"));
                found.push((path.metadata().unwrap().modified().unwrap(), id, path));
            }
            let ids: std::collections::BTreeSet<&String> = found.iter().map(|(_, id, _)| id).collect();
            if ids.len() >= count {
                found.sort();
                return found.into_iter().map(|(_, id, path)| (id, path)).collect();
            }
            assert!(Instant::now() < deadline, "{} of {count} mails arrived", found.len());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.control("stop");
    }
}

#[test]
#[ignore = "needs a real SMTP server: scripts/smtp.sh, as root"]
fn a_real_server_takes_firing_and_resolved_also_after_it_was_down() {
    let server = RealServer::new();
    server.control("start");
    let harness = Harness::new();
    let receivers = receivers(&["ml@example.com", "gone@refused.test"], &smtp(&server.url()));
    let role = harness.start("0", &receivers, None);
    harness.publish(&[notification("a", 0, &["mail"]), notification("a", 1, &["mail"])]);
    let deliveries = harness.wait_until_final(2);
    for record in deliveries.values() {
        assert_eq!(record.status, DeliveryStatus::Delivered);
        let remark = record.last_error.as_deref().unwrap_or_default();
        assert!(remark.contains("gone@refused.test") && remark.contains("550"), "{record:#?}");
    }
    let ids = |mails: Vec<(String, PathBuf)>| mails.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    let first = ["<a-0@driftline.example.com>", "<a-1@driftline.example.com>"];
    assert_eq!(ids(server.wait_for(2)), first);
    let (_, mail) = server.wait_for(2).remove(0);
    let raw = std::fs::read_to_string(mail).unwrap().replace('\n', "\r\n");
    assert_eq!(&picture(&raw)[..8], b"\x89PNG\r\n\x1a\n");

    server.control("stop");
    harness.publish(&[notification("b", 0, &["mail"]), notification("b", 1, &["mail"])]);
    std::thread::sleep(Duration::from_millis(500));
    // It fired and was over while the server was down: one message says both.
    let waiting = harness.deliveries();
    assert_eq!(waiting["b-0|mail"].status, DeliveryStatus::Superseded, "{waiting:#?}");
    assert_eq!(waiting["b-1|mail"].status, DeliveryStatus::Pending, "{waiting:#?}");
    server.control("start");
    let deliveries = harness.wait_until_final(4);
    role.stop().unwrap();
    for id in ["a-0", "a-1"] {
        assert_eq!(deliveries[&format!("{id}|mail")].attempts, 1, "{id} was sent once");
    }
    let all = [first[0], first[1], "<b-1@driftline.example.com>"];
    let mut arrived = ids(server.wait_for(3));
    arrived.sort();
    // A server that is stopped while a mail is on its way to the mailbox may put it there twice.
    arrived.dedup();
    assert_eq!(arrived, all);
}
