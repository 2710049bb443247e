//! One client for each that must not share connections: tool, tenant, user and session, credentials, and ranges of addresses.
//!
//! Promises: a connection is used again by calls with the same key, and by no others; clients that nobody uses are
//! dropped with their connections. TLS sessions belong to a client too.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::{Certificate, Client, ClientBuilder};
use tokio::sync::OnceCell;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use super::headers::RESPONSE_HEADERS_MAX;
use super::names::{Names, Permitted};
use super::refusal::Refusal;
use crate::clock::Clock;
use crate::domain::{Digest, Failure, Kind};

/// Clients kept: as many tools times users as are likely busy within [`IDLE_MS`].
const CLIENTS_MAX: usize = 256;

/// How long an unused connection is kept: a run's next call comes within it, and a server keeps one longer.
const IDLE_MS: u64 = 30_000;

/// Unused connections kept to one host: as many as a call uses at once.
const IDLE_PER_HOST_MAX: usize = 8;

/// Wait for a connection: a server that is up answers a handshake at once.
const HTTP_CONNECT_MS_MAX: u64 = 5_000;

/// Bytes of an answer's head that an HTTP/2 connection takes. HTTP/1.1 has the client's own bound, some 400 KiB. Both
/// only bound memory: what a guest gets is held to `header_bytes_max`.
const HEAD_BYTES_CEILING: u32 = 384 << 10;

/// Bytes of one HTTP/2 stream that arrive before the guest reads.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;

/// The same for all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// How requests leave this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Name servers; where none is named, those of the machine's configuration.
    pub nameservers: Vec<SocketAddr>,
    /// A file of certificates, in PEM, that are trusted beside the machine's own.
    pub ca_file: Option<PathBuf>,
}

/// Whose connections they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) component: Digest,
    pub(super) tool: String,
    pub(super) tenant: String,
    pub(super) user: String,
    pub(super) session: String,
    /// Names of the secrets that go into such requests.
    pub(super) credentials: Vec<String>,
    /// Ranges that its rules name though they are not public.
    pub(super) ranges: Vec<IpNet>,
}

/// Makes clients and keeps them.
pub(in crate::sandbox) struct Clients {
    names: Names,
    roots: Vec<Certificate>,
    clock: Arc<dyn Clock>,
    kept: Mutex<HashMap<Key, Kept>>,
}

struct Kept {
    client: Arc<OnceCell<Client>>,
    used_ms: u64,
}

impl Clients {
    /// Reads what `options` name.
    ///
    /// # Errors
    /// `data.config` for a `ca_file` that does not read.
    pub(in crate::sandbox) fn new(options: &NetworkOptions, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let roots = options.ca_file.as_deref().map(certificates).transpose()?.unwrap_or_default();
        Ok(Self { names: Names::new(&options.nameservers), roots, clock, kept: Mutex::default() })
    }

    /// Returns the client of `key`.
    ///
    /// # Errors
    /// Where none can be made.
    pub(super) async fn get(&self, key: &Key) -> Result<Client, Refusal> {
        let cell = self.cell(key);
        let made = cell.get_or_try_init(|| self.make(key)).await;
        made.cloned().map_err(|_| Refusal::failed(ErrorCode::ConfigurationError))
    }

    fn cell(&self, key: &Key) -> Arc<OnceCell<Client>> {
        let now_ms = self.clock.monotonic_ms();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, client| now_ms.saturating_sub(client.used_ms) <= IDLE_MS);
        if kept.len() >= CLIENTS_MAX && !kept.contains_key(key) {
            let oldest = kept.iter().min_by_key(|(_, client)| client.used_ms).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| kept.remove(&oldest));
        }
        let client = kept.entry(key.clone()).or_insert_with(|| Kept { client: Arc::default(), used_ms: now_ms });
        client.used_ms = now_ms;
        client.client.clone()
    }

    /// Reading the machine's certificates takes milliseconds: not on the guests' threads.
    async fn make(&self, key: &Key) -> Result<Client, String> {
        let resolver = Arc::new(Permitted { names: self.names.clone(), ranges: key.ranges.clone() });
        let roots = self.roots.clone();
        let made = tokio::task::spawn_blocking(move || {
            let trusting = builder(&resolver).tls_certs_merge(roots.clone()).build();
            // A machine without certificates of its own can still send without TLS, or to servers of `ca_file`.
            trusting.or_else(|_| builder(&resolver).tls_certs_only(roots).build())
        });
        made.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }
}

fn builder(resolver: &Arc<Permitted>) -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        // Another crate may have the features on: bodies are decoded here, under a bound.
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
        .dns_resolver(resolver.clone())
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
        .connect_timeout(Duration::from_millis(HTTP_CONNECT_MS_MAX))
        .pool_idle_timeout(Duration::from_millis(IDLE_MS))
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .http1_max_headers(RESPONSE_HEADERS_MAX)
        .http2_max_header_list_size(HEAD_BYTES_CEILING)
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let wrong = |e: &dyn std::fmt::Display| {
        Failure::new(Kind::DataConfig, format!("read certificates from {}: {e}", path.display()))
            .hint("`ca_file` under `[network]` names a file of PEM certificates")
    };
    let text = std::fs::read(path).map_err(|e| wrong(&e))?;
    let roots = Certificate::from_pem_bundle(&text).map_err(|e| wrong(&e))?;
    if roots.is_empty() { Err(wrong(&"there is none in it")) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimClock;
    use crate::domain::Timestamp;

    fn key() -> Key {
        Key {
            component: Digest::of(b"fetch"),
            tool: "fetch.get".into(),
            tenant: "local".into(),
            user: "ann".into(),
            session: "first".into(),
            credentials: vec![],
            ranges: vec![],
        }
    }

    fn clients() -> (Clients, Arc<SimClock>) {
        let clock = Arc::new(SimClock::at(Timestamp(0)));
        (Clients::new(&NetworkOptions::default(), clock.clone()).unwrap(), clock)
    }

    #[test]
    fn whatever_differs_has_connections_of_its_own() {
        let (clients, _) = clients();
        let first = clients.cell(&key());
        assert!(Arc::ptr_eq(&first, &clients.cell(&key())));
        for other in [
            Key { component: Digest::of(b"other"), ..key() },
            Key { tool: "fetch.send".into(), ..key() },
            Key { tenant: "other".into(), ..key() },
            Key { user: "bob".into(), ..key() },
            Key { session: "second".into(), ..key() },
            Key { credentials: vec!["token".into()], ..key() },
            Key { ranges: vec!["10.0.0.0/8".parse().unwrap()], ..key() },
        ] {
            assert!(!Arc::ptr_eq(&first, &clients.cell(&other)), "{other:?}");
        }
    }

    #[test]
    fn clients_that_nobody_uses_are_dropped() {
        let (clients, clock) = clients();
        let first = clients.cell(&key());
        clock.advance_ms(IDLE_MS);
        assert!(Arc::ptr_eq(&first, &clients.cell(&key())), "it was used in time");
        clock.advance_ms(IDLE_MS + 1);
        assert!(!Arc::ptr_eq(&first, &clients.cell(&key())));
        for n in 0..=CLIENTS_MAX {
            clock.advance_ms(1);
            clients.cell(&Key { user: n.to_string(), ..key() });
        }
        let kept = clients.kept.lock().unwrap();
        assert_eq!(kept.len(), CLIENTS_MAX);
        assert!(!kept.contains_key(&key()), "the one that was used longest ago went");
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = NetworkOptions { ca_file: Some(file.path().to_owned()), ..NetworkOptions::default() };
        let refused = Clients::new(&options, Arc::new(SimClock::default())).err().unwrap();
        assert_eq!(refused.kind, Kind::DataConfig);
        assert!(refused.hint.is_some_and(|hint| hint.contains("[network]")));
    }
}
