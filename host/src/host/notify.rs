//! Tells somebody that a run waits: with a program of the operator's, or a request to an address.
//!
//! Promises: what is told are names and numbers, no arguments and no outputs; a repeat can be seen to be one; an address has
//! no text here, not even in a failure.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Certificate, Client, Response};
use tokio::sync::OnceCell;
use url::Url;

use crate::config::{Notify, NotifyTo};
use crate::domain::{Digest, Failure, Kind};
use crate::orchestrator::{Notice, Notifier};

/// How long a request may take, its answer included, in milliseconds: the run waits for it.
const NOTIFY_URL_MS_MAX: u64 = 10_000;

/// How long a connection may take, in milliseconds: a server that is up answers a handshake at once.
const NOTIFY_CONNECT_MS_MAX: u64 = 5_000;

/// Steps that a notice names: a person looks at the run for the rest.
const NOTICE_STEPS_MAX: usize = 100;

/// Tells as `[notify]` of the settings says.
pub(super) struct Teller {
    notify: Notify,
    /// Certificates that are trusted beside the machine's own.
    ca_file: Option<PathBuf>,
    client: OnceCell<Client>,
}

impl Teller {
    pub(super) fn new(notify: Notify, ca_file: Option<PathBuf>) -> Self {
        Self { notify, ca_file, client: OnceCell::new() }
    }

    async fn post(&self, url: Url, notice: &Notice, body: Vec<u8>) -> Result<(), Failure> {
        let client = self.client.get_or_try_init(|| client(self.ca_file.clone())).await?;
        let request = client.post(url).header("content-type", "application/json");
        let sent = request.header("idempotency-key", key(notice)).body(body).send().await;
        answered(sent.map_err(|e| failed(&e))?)
    }
}

#[async_trait]
impl Notifier for Teller {
    async fn notify(&self, notice: &Notice) -> Result<(), Failure> {
        if !self.notify.on.contains(&notice.why) {
            return Ok(());
        }
        let mut told = notice.clone();
        told.steps.truncate(NOTICE_STEPS_MAX);
        let body = serde_json::to_vec(&told).map_err(|e| Failure::new(Kind::HostBug, "write a notice").detail(e))?;
        if let NotifyTo::Command(words) = &self.notify.to {
            let words = words.clone();
            let told = tokio::task::spawn_blocking(move || NotifyTo::tell_command(&words, body)).await;
            return told.map_err(|e| Failure::new(Kind::HostBug, "run the command of `[notify]`").detail(e))?;
        }
        // Reading a file may block, a moment.
        let to = self.notify.to.clone();
        let url = tokio::task::spawn_blocking(move || to.url()).await;
        match url.map_err(|e| Failure::new(Kind::HostBug, "read the address of `[notify]`").detail(e))?? {
            Some(url) => self.post(url, notice, body).await,
            None => Ok(()),
        }
    }
}

/// The same for one suspension however often it is told, and another for the next.
fn key(notice: &Notice) -> String {
    let parts: [&[u8]; 3] = [b"notice", notice.run.as_str().as_bytes(), &notice.seq.to_be_bytes()];
    Digest::of_parts(&parts).to_string().trim_start_matches("sha256:").to_owned()
}

fn answered(response: Response) -> Result<(), Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let kind = match status.as_u16() {
        429 => Kind::NetworkRateLimited,
        500.. => Kind::NetworkHttp5xx,
        _ => Kind::NetworkHttp4xx,
    };
    Err(Failure::new(kind, format!("tell somebody at the address of `[notify]`: it answers {}", status.as_u16())))
}

/// A failure without the address, which the error would tell.
fn failed(error: &reqwest::Error) -> Failure {
    let (kind, why) = match (error.is_timeout(), error.is_connect(), is_tls(error)) {
        (_, _, true) => (Kind::NetworkTls, "it cannot prove who it is"),
        (true, ..) => (Kind::NetworkTimeout, "it does not answer in time"),
        (_, true, _) => (Kind::NetworkConnect, "no connection came about"),
        _ => (Kind::NetworkCut, "the request broke off"),
    };
    Failure::new(kind, format!("tell somebody at the address of `[notify]`: {why}"))
}

/// An error of the machine may wrap the one that says why.
fn is_tls(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}

/// Reading the machine's certificates takes milliseconds: not on the threads of the runtime.
async fn client(ca_file: Option<PathBuf>) -> Result<Client, Failure> {
    let made = tokio::task::spawn_blocking(move || {
        let roots = ca_file.map_or(Ok(Vec::new()), |file| certificates(&file))?;
        let trusting = builder().tls_certs_merge(roots.clone()).build();
        // A machine without certificates of its own can still tell servers of `ca_file`, and itself.
        trusting.or_else(|_| builder().tls_certs_only(roots).build()).map_err(|e| e.to_string())
    });
    let cannot = |e: String| Failure::new(Kind::HostBug, "make a client for `[notify]`").detail(e);
    made.await.map_err(|e| cannot(e.to_string()))?.map_err(cannot)
}

fn certificates(file: &std::path::Path) -> Result<Vec<Certificate>, String> {
    let pem = std::fs::read(file).map_err(|e| e.to_string())?;
    Certificate::from_pem_bundle(&pem).map_err(|e| e.to_string())
}

fn builder() -> reqwest::ClientBuilder {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
        .connect_timeout(Duration::from_millis(NOTIFY_CONNECT_MS_MAX))
        .timeout(Duration::from_millis(NOTIFY_URL_MS_MAX))
        .pool_max_idle_per_host(0)
}
