//! From a host to the addresses that may be connected to.

use crate::AllowPrivate;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::net::lookup_host;

/// Resolves names by the system's resolver and hands on only what the setting permits. Since
/// the client connects to nothing else, a name that changes between the look and the connect
/// gains nothing.
#[derive(Debug, Clone)]
pub(crate) struct Resolver(AllowPrivate);

/// No address to connect to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("{0}")]
    Lookup(#[source] io::Error),
    #[error("the name has no address")]
    NoAddress,
    #[error("{0} is not a public address")]
    Refused(IpAddr),
}

impl Resolver {
    pub(crate) fn new(allow_private: AllowPrivate) -> Self {
        Self(allow_private)
    }

    pub(crate) async fn lookup(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let found = lookup_host((host, port)).await;
        self.vet(found.map_err(ResolveError::Lookup)?)
    }

    /// A host that is an address never asks the resolver, so it is looked at here.
    pub(crate) fn vet_literal(&self, url: &Url) -> Result<(), ResolveError> {
        let host = url.host_str().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => self.vet([SocketAddr::new(address, 0)]).map(drop),
            Err(_) => Ok(()),
        }
    }

    fn vet(
        &self,
        found: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let mut refused = None;
        let mut permitted = Vec::new();
        for address in found {
            if self.0.permits(address.ip()) {
                permitted.push(address);
            } else {
                refused = Some(address.ip());
            }
        }
        match refused {
            _ if !permitted.is_empty() => Ok(permitted),
            Some(address) => Err(ResolveError::Refused(address)),
            None => Err(ResolveError::NoAddress),
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            // Port 0: the client puts the URL's port in.
            let addresses = resolver.lookup(name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 0)
    }

    #[test]
    fn only_the_permitted_addresses_of_a_name_are_handed_on() {
        let resolver = Resolver::new(AllowPrivate::No);
        let mixed = [address("10.0.0.1"), address("1.1.1.1"), address("::1")];
        assert_eq!(resolver.vet(mixed).unwrap(), [address("1.1.1.1")]);
        assert!(matches!(
            resolver.vet([address("10.0.0.1")]),
            Err(ResolveError::Refused(_))
        ));
        assert!(matches!(resolver.vet([]), Err(ResolveError::NoAddress)));
    }

    #[test]
    fn every_spelling_of_a_literal_is_seen_through() {
        let resolver = Resolver::new(AllowPrivate::No);
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://169.254.169.254/latest/meta-data",
        ] {
            let refused = resolver.vet_literal(&Url::parse(url).unwrap());
            assert!(matches!(refused, Err(ResolveError::Refused(_))), "{url}");
        }
        assert!(
            resolver
                .vet_literal(&Url::parse("http://1.1.1.1/").unwrap())
                .is_ok()
        );
        assert!(
            resolver
                .vet_literal(&Url::parse("http://example.org/").unwrap())
                .is_ok()
        );
    }
}
