//! Registration at VRM: the password of this device, posted as a form over HTTPS (§8).
//!
//! In the background: nobody waits for it but the broker of VRM, for the first attempt. When to do it
//! is decided by `link/vrm.rs`. Here is the one message that says it, over the same TLS as that to a
//! broker; of HTTP it has what one request and the first line of its answer need.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tracing::{debug, info, warn};

use super::shared::{UplinkTask, random_u32};
use super::transport::{Endpoint, TransportError, connect};
use crate::config::{Config, Login, Registration, TlsConfig, Transport};
use crate::error::plain;
use crate::link::vrm::Schedule;

/// How long one attempt may take, from the connection to the answer.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);
/// The longest first line of an answer.
const LINE_BYTES_MAX: u64 = 8 * 1024;
/// The answer of a server that has registered us.
const REGISTERED: u16 = 200;

/// Why it did not work. Nothing of it shows the password.
#[derive(Debug, thiserror::Error)]
enum RegisterError {
    #[error(transparent)]
    Connect(#[from] TransportError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no answer within {} s", ATTEMPT_MAX.as_secs())]
    NoAnswer,
    #[error("the server did not answer with HTTP")]
    NoHttp,
    #[error("the server refused it, with status {0}")]
    Refused(u16),
}

/// Registers this device as often as it has to be.
pub async fn run(config: Config, UplinkTask { shared, uplink }: UplinkTask) {
    let Some((broker, registration)) = config
        .vrm
        .and_then(|vrm| Some((vrm.broker, vrm.registration?)))
    else {
        return;
    };
    let broker_config = config.brokers.get(broker);
    let Some(login) = broker_config.and_then(|broker| broker.login.as_ref()) else {
        return;
    };
    let Registration {
        retry, again_max, ..
    } = registration;
    let mut schedule = Schedule::new(retry, again_max, Instant::now());
    let mut losses = 0;
    let mut last_error = String::new();
    loop {
        let due = async {
            match schedule.due() {
                // Who wants nothing of VRM is not made known there.
                Some(due) if shared.bridge().wants(broker) => {
                    tokio::time::sleep_until(due.into()).await;
                }
                Some(_) | None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = uplink.changed() => {
                let lost = uplink.losses();
                if lost != losses {
                    losses = lost;
                    schedule.lost(Instant::now(), random_u32());
                }
                continue;
            }
        }
        let attempt = tokio::time::timeout(ATTEMPT_MAX, register(&registration, login)).await;
        match attempt.unwrap_or(Err(RegisterError::NoAnswer)) {
            Ok(()) => {
                info!("registered at VRM, at {}", registration.host);
                last_error.clear();
                schedule.succeeded();
            }
            Err(error) => {
                let text = plain(&error);
                let (host, seconds) = (&registration.host, retry.as_secs());
                if text == last_error {
                    debug!("cannot register at VRM, at {host}: {text}");
                } else {
                    warn!(
                        "cannot register at VRM, at {host}: {text}; trying again every {seconds} s"
                    );
                }
                last_error = text;
                schedule.failed(Instant::now());
            }
        }
        // Whatever came of it: an earlier registration may still hold.
        if uplink.release() {
            shared.wake_broker(broker);
        }
    }
}

async fn register(registration: &Registration, login: &Login) -> Result<(), RegisterError> {
    let endpoint = Endpoint {
        host: registration.host.clone(),
        port: registration.port,
        transport: Transport::Tls,
        tls: Some(TlsConfig {
            ca: registration.ca.clone(),
            ..TlsConfig::default()
        }),
        packet_bytes_max: 0,
    };
    let mut stream = connect(&endpoint).await?;
    stream
        .write_all(request(registration, login).as_bytes())
        .await?;
    stream.flush().await?;
    let mut line = Vec::new();
    let mut answer = BufReader::new(stream.take(LINE_BYTES_MAX));
    answer.read_until(b'\n', &mut line).await?;
    match status(&line) {
        Some(REGISTERED) => Ok(()),
        Some(status) => Err(RegisterError::Refused(status)),
        None => Err(RegisterError::NoHttp),
    }
}

fn request(registration: &Registration, login: &Login) -> String {
    let Registration {
        host, port, path, ..
    } = registration;
    let body = format!(
        "identifier={}&mqttPassword={}",
        encoded(&login.user),
        encoded(login.password.expose())
    );
    let host = match (host.contains(':'), *port) {
        (false, HTTPS_PORT) => host.clone(),
        (false, port) => format!("{host}:{port}"),
        (true, port) => format!("[{host}]:{port}"),
    };
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: dbus-mqtt/{}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        env!("CARGO_PKG_VERSION"),
        body.len(),
    )
}

/// A text as a form has it: whatever could mean something is written in hexadecimal digits.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => out.push(byte.into()),
            _ => {
                // Writing to a text cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The status in the first line of an answer: `HTTP/1.1 200 OK`.
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let mut words = line.split(' ');
    let (version, status) = (words.next()?, words.next()?);
    let is_number = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    if version.starts_with("HTTP/1.") && is_number {
        status.parse().ok()
    } else {
        None
    }
}

const HTTPS_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn s8_the_form_that_is_posted() {
        let registration = Registration {
            host: "::1".into(),
            port: 443,
            path: "/log/x.php".into(),
            ca: None,
            retry: Duration::ZERO,
            again_max: Duration::ZERO,
        };
        let login = Login {
            user: "ccgxapikey_e0ff".into(),
            password: Secret::from("a+b &é"),
        };
        let text = request(&registration, &login);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            body,
            "identifier=ccgxapikey_e0ff&mqttPassword=a%2Bb%20%26%C3%A9"
        );
        assert!(
            head.starts_with("POST /log/x.php HTTP/1.1\r\nHost: [::1]:443\r\n"),
            "{head}"
        );
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{head}"
        );
    }

    #[test]
    fn the_first_line_of_an_answer() {
        let check = |line: &str, expected| assert_eq!(status(line.as_bytes()), expected, "{line}");
        check("HTTP/1.1 200 OK\r\n", Some(200));
        check("HTTP/1.0 403\r\n", Some(403));
        for line in [
            "",
            "HTTP/1.1",
            "HTTP/2 200",
            "HTTP/1.1 +20",
            "HTTP/1.1 2000",
            "SSH-2.0-x 200",
        ] {
            check(line, None);
        }
    }
}
