//! Names to addresses: by DNS alone, without the machine's search list and hosts file, and only to permitted addresses.
//!
//! Promises: a name is looked up once for each connection, as it is; what the connection goes to is an address of that
//! answer that was permitted, so that a later answer changes nothing. Nothing is cached: the connections themselves are
//! kept, and callers of different tenants learn nothing from each other's timing.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::read_system_conf;
use ipnet::IpNet;
use reqwest::dns::{Addrs, Resolve, Resolving};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use super::addresses::permitted;
use super::refusal::Refusal;

/// Wait for one answer of a name server: one that is up answers in well under a second.
const DNS_MS_MAX: u64 = 2_000;

/// Questions asked in all before a name counts as unknown: a datagram may be lost.
const DNS_ATTEMPTS_MAX: usize = 2;

/// Looks names up.
#[derive(Clone)]
pub(super) struct Names(Option<TokioResolver>);

impl Names {
    /// Asks `nameservers`; where there are none, those that the machine's configuration names.
    pub(super) fn new(nameservers: &[SocketAddr]) -> Self {
        let servers = if nameservers.is_empty() {
            read_system_conf().map(|(config, _)| config.name_servers().to_vec()).unwrap_or_default()
        } else {
            nameservers.iter().map(server).collect()
        };
        if servers.is_empty() {
            return Self(None);
        }
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        set(builder.options_mut());
        Self(builder.build().ok())
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Refusal> {
        let resolver = self.0.as_ref().ok_or_else(|| Refusal::unresolved("no name server is configured"))?;
        // The last dot makes it the whole name: no suffix is tried.
        let name = Name::from_ascii(format!("{host}.")).map_err(|_| Refusal::unresolved("FORMERR"))?;
        let found = resolver.lookup_ip(name).await.map_err(|error| unknown(&error))?;
        Ok(found.iter().collect())
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

fn set(options: &mut ResolverOpts) {
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    options.ndots = 0;
    options.timeout = Duration::from_millis(DNS_MS_MAX);
    options.attempts = DNS_ATTEMPTS_MAX;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
}

fn unknown(error: &NetError) -> Refusal {
    match error {
        NetError::Timeout => Refusal::failed(ErrorCode::DnsTimeout),
        error if error.is_nx_domain() => Refusal::unresolved("NXDOMAIN"),
        error if error.is_no_records_found() => Refusal::unresolved("NODATA"),
        _ => Refusal::unresolved("SERVFAIL"),
    }
}

/// The resolver of one client: it gives it only addresses that are public or in the ranges that its rule names.
pub(super) struct Permitted {
    pub(super) names: Names,
    pub(super) ranges: Vec<IpNet>,
}

impl Resolve for Permitted {
    fn resolve(&self, name: reqwest::dns::Name) -> Resolving {
        let (names, ranges) = (self.names.clone(), self.ranges.clone());
        Box::pin(async move {
            let found = permitted(names.addresses(name.as_str()).await?, &ranges);
            if found.is_empty() {
                let error = ErrorCode::DestinationIpProhibited;
                return Err(Refusal::denied("denied.net.private", error, "its addresses are not public").into());
            }
            let addresses = found.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}
