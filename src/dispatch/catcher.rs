//! A mail server that keeps what it is given: the demo's mailbox, and the tests'. Loopback only; plain SMTP
//! (RFC 5321) without relaying, authentication or encryption.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const MAX_MESSAGE_BYTES: usize = 10 * 1_048_576;
const MAX_LINE_BYTES: u64 = 4_096;
/// Messages kept in memory; later ones are in the directory only.
const MAX_KEPT: usize = 10_000;

/// One message as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaughtMail {
    pub from: String,
    pub to: Vec<String>,
    /// Headers, empty line and body, lines ended by CR LF.
    pub raw: String,
    pub received_at_ms: i64,
    /// Where it was stored, if the catcher has a directory.
    pub path: Option<PathBuf>,
}

impl CaughtMail {
    /// A header's value with folded lines joined, as it was sent (encoded words stay encoded).
    pub fn header(&self, name: &str) -> Option<String> {
        let mut value: Option<String> = None;
        for line in self.raw.split("\r\n").take_while(|line| !line.is_empty()) {
            let is_folded = line.starts_with([' ', '\t']);
            match (&mut value, is_folded) {
                (Some(value), true) => {
                    value.push(' ');
                    value.push_str(line.trim_start());
                }
                (Some(_), false) => break,
                (None, _) => {
                    if let Some((found, rest)) = line.split_once(':')
                        && found.eq_ignore_ascii_case(name)
                    {
                        value = Some(rest.trim().to_string());
                    }
                }
            }
        }
        value
    }
}

#[derive(Default)]
struct State {
    mails: Vec<CaughtMail>,
    caught: u64,
    /// Answer the next transactions with this reply instead of taking the message.
    refusals: Vec<(u32, String)>,
    refuses_all: Option<String>,
}

struct Shared {
    state: Mutex<State>,
    arrived: Notify,
    directory: Option<PathBuf>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until it is dropped.
pub struct MailCatcher {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl MailCatcher {
    /// Listens on 127.0.0.1; port 0 takes a free one. Messages are also written to `directory`, one `.eml` each.
    pub async fn start(port: u16, directory: Option<&Path>) -> io::Result<Self> {
        if let Some(directory) = directory {
            tokio::fs::create_dir_all(directory).await?;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            arrived: Notify::new(),
            directory: directory.map(Path::to_path_buf),
        });
        let serving = shared.clone();
        let task = tokio::spawn(async move {
            // Sessions end with the catcher.
            let mut sessions = tokio::task::JoinSet::new();
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        sessions.spawn(session(stream, serving.clone()));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
                while sessions.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, shared, task })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `smtp.url`.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Everything caught so far, in order of arrival.
    pub fn mails(&self) -> Vec<CaughtMail> {
        self.shared.state().mails.clone()
    }

    /// Waits until `count` messages have been caught; whatever there is after `timeout`.
    pub async fn wait_for(&self, count: usize, timeout: Duration) -> Vec<CaughtMail> {
        let enough = async {
            loop {
                let arrived = self.shared.arrived.notified();
                if self.shared.state().mails.len() >= count {
                    return;
                }
                arrived.await;
            }
        };
        let _ = tokio::time::timeout(timeout, enough).await;
        self.mails()
    }

    /// Refuses the next `count` messages with this reply, such as `450 4.2.1 mailbox busy`.
    pub fn refuse_next(&self, count: u32, reply: &str) {
        self.shared.state().refusals.push((count, reply.to_string()));
    }

    /// Refuses every message with this reply until told otherwise by `None`.
    pub fn refuse_all(&self, reply: Option<&str>) {
        self.shared.state().refuses_all = reply.map(str::to_string);
    }
}

impl Drop for MailCatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection; ends when the client does or breaks the protocol.
async fn session(stream: TcpStream, shared: Arc<Shared>) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let _ = converse(&mut read, &mut write, &shared).await;
    let _ = write.shutdown().await;
}

async fn converse(
    read: &mut BufReader<tokio::net::tcp::OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
    shared: &Shared,
) -> io::Result<()> {
    reply(write, "220 localhost driftline mail catcher").await?;
    let mut from: Option<String> = None;
    let mut to: Vec<String> = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        if (&mut *read).take(MAX_LINE_BYTES).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if !line.ends_with('\n') {
            return reply(write, "500 5.5.2 line too long").await;
        }
        let command = line.trim_end();
        let verb = command.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_str() {
            "EHLO" => "250-localhost\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 10485760",
            "HELO" | "NOOP" => "250 ok",
            "RSET" => {
                (from, to) = (None, Vec::new());
                "250 ok"
            }
            "MAIL" => {
                from = Some(path_of(command));
                "250 ok"
            }
            "RCPT" if from.is_some() => {
                to.push(path_of(command));
                "250 ok"
            }
            "DATA" if !to.is_empty() => {
                let refusal = next_refusal(shared);
                if let Some(refusal) = refusal {
                    (from, to) = (None, Vec::new());
                    reply(write, &refusal).await?;
                    continue;
                }
                reply(write, "354 end with a dot on a line of its own").await?;
                let Some(raw) = read_message(read).await? else {
                    return reply(write, "552 5.3.4 message too big").await;
                };
                keep(shared, from.take().unwrap_or_default(), std::mem::take(&mut to), raw).await?;
                "250 caught"
            }
            "RCPT" | "DATA" => "503 5.5.1 bad sequence of commands",
            "QUIT" => return reply(write, "221 bye").await,
            _ => "502 5.5.1 not implemented",
        };
        reply(write, answer).await?;
    }
}

async fn reply(write: &mut OwnedWriteHalf, text: &str) -> io::Result<()> {
    write.write_all(format!("{text}\r\n").as_bytes()).await
}

/// The address in `MAIL FROM:<a@b> SIZE=1`.
fn path_of(command: &str) -> String {
    let rest = command.split_once(':').map_or("", |(_, rest)| rest).trim_start();
    match rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((address, _)) => address.to_string(),
        None => rest.split(' ').next().unwrap_or_default().to_string(),
    }
}

fn next_refusal(shared: &Shared) -> Option<String> {
    let mut state = shared.state();
    if let Some(reply) = &state.refuses_all {
        return Some(reply.clone());
    }
    let (count, reply) = state.refusals.first_mut()?;
    let reply = reply.clone();
    *count = count.saturating_sub(1);
    if *count == 0 {
        state.refusals.remove(0);
    }
    Some(reply)
}

/// Up to the line with a single dot; the dots that the client doubled are single again. `None`: too big.
async fn read_message(read: &mut BufReader<tokio::net::tcp::OwnedReadHalf>) -> io::Result<Option<String>> {
    let mut message = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut *read).take(MAX_MESSAGE_BYTES as u64).read_until(b'\n', &mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(Some(String::from_utf8_lossy(&message).into_owned()));
        }
        message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        if message.len() > MAX_MESSAGE_BYTES {
            return Ok(None);
        }
    }
}

async fn keep(shared: &Shared, from: String, to: Vec<String>, raw: String) -> io::Result<()> {
    let received_at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let number = {
        let mut state = shared.state();
        state.caught += 1;
        state.caught
    };
    let path = match &shared.directory {
        Some(directory) => {
            let path = directory.join(format!("{received_at_ms}-{number:05}.eml"));
            tokio::fs::write(&path, raw.as_bytes()).await?;
            Some(path)
        }
        None => None,
    };
    let mut state = shared.state();
    if state.mails.len() < MAX_KEPT {
        state.mails.push(CaughtMail { from, to, raw, received_at_ms, path });
    }
    drop(state);
    shared.arrived.notify_waiters();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_headers_are_joined() {
        let mail = CaughtMail {
            from: String::new(),
            to: vec![],
            raw: "Subject: one\r\n two\r\nTo: x\r\n\r\nTo: body\r\n".into(),
            received_at_ms: 0,
            path: None,
        };
        assert_eq!(mail.header("subject").as_deref(), Some("one two"));
        assert_eq!(mail.header("to").as_deref(), Some("x"));
        assert_eq!(mail.header("cc"), None);
    }

    #[test]
    fn the_address_is_found_with_and_without_parameters() {
        assert_eq!(path_of("MAIL FROM:<a@b> SIZE=10"), "a@b");
        assert_eq!(path_of("RCPT TO: <a@b>"), "a@b");
        assert_eq!(path_of("MAIL FROM:<>"), "");
    }
}
