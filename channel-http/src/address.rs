//! Which addresses a request may go to.

use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether requests may go to addresses that are not on the public internet.
///
/// A target's name is often somebody else's to choose, and the worker stands inside a network
/// that trusts it: without a filter a target could be pointed at a database, or at the cloud's
/// metadata service. Read from settings as `false`, `true`, or a list of networks.
///
/// ```
/// # use channel_http::AllowPrivate;
/// let setting: AllowPrivate = serde_json::from_str(r#"["10.1.0.0/16"]"#)?;
/// assert!(setting.permits("10.1.2.3".parse()?));
/// assert!(setting.permits("93.184.215.14".parse()?));
/// assert!(!setting.permits("10.2.0.1".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AllowPrivate {
    /// Public addresses only.
    #[default]
    No,
    /// Public addresses, and these networks.
    Only(Vec<IpNet>),
    /// Every address.
    Yes,
}

impl AllowPrivate {
    /// Whether a request may go to `address`. An IPv4 address in IPv6 clothes counts as the
    /// IPv4 address.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            Self::Yes => true,
            Self::No => is_public(address),
            Self::Only(networks) => {
                is_public(address) || networks.iter().any(|network| network.contains(&address))
            }
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// By the registry of special-purpose addresses
/// (<https://www.iana.org/assignments/iana-ipv4-special-registry>).
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _) // this network, private, loopback, multicast and up
            | (100, 64..=127, _)         // carrier-grade NAT
            | (169, 254, _)              // link-local, where clouds keep their metadata
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)            // protocol assignments, documentation
            | (192, 88, 99)              // 6to4 relays
            | (198, 18 | 19, _)          // benchmarks
            | (198, 51, 100)             // documentation
            | (203, 0, 113)
    );
    !special
}

/// Global unicast is `2000::/3`; inside it and beside it are ranges that only wrap an IPv4
/// address (<https://www.iana.org/assignments/iana-ipv6-special-registry>).
fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            is_public_v4(embedded(high, low)) // NAT64, 6to4
        }
        // Teredo: the server's address as it is, the client's with every bit turned.
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            is_public_v4(embedded(server_high, server_low)) && is_public_v4(embedded(!high, !low))
        }
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => false, // documentation
        [0x2001, 0..=0x01ff, ..] => false,                        // protocol assignments
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low))
}

impl<'de> Deserialize<'de> for AllowPrivate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Setting)
    }
}

struct Setting;

impl<'de> Visitor<'de> for Setting {
    type Value = AllowPrivate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, or a list of networks such as [\"10.0.0.0/8\"]")
    }

    fn visit_bool<E: de::Error>(self, all: bool) -> Result<AllowPrivate, E> {
        Ok(if all {
            AllowPrivate::Yes
        } else {
            AllowPrivate::No
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<AllowPrivate, A::Error> {
        let mut networks = Vec::new();
        while let Some(text) = items.next_element::<String>()? {
            networks.push(network(&text).ok_or_else(|| {
                let unexpected = de::Unexpected::Str(&text);
                de::Error::invalid_value(unexpected, &"a network such as \"10.0.0.0/8\"")
            })?);
        }
        Ok(AllowPrivate::Only(networks))
    }
}

/// A network, or one address.
fn network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok();
    network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(setting: &AllowPrivate, address: &str) -> bool {
        setting.permits(address.parse().unwrap())
    }

    #[test]
    fn special_addresses_are_refused() {
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "2001:db8::1",
            "3fff:abc::1",
            "2001:2::1",
            "2001:10::1",
            "5f00::1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::8.8.8.8",
            "2002:0a00:0001::1",
            "2002:7f00:0001::1",
            "2001:0:0a00:1:0:0:f7f7:f7f7",
            "2001:0:808:808:0:0:80ff:fffe",
        ] {
            assert!(!permits(&AllowPrivate::No, address), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_permitted() {
        for address in [
            "1.1.1.1",
            "93.184.215.14",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:0808:0808::1",
            "2001:0:808:808:0:0:f7f7:f7f7",
            "2001:4860::8888",
        ] {
            assert!(permits(&AllowPrivate::No, address), "{address}");
        }
    }

    #[test]
    fn listed_networks_are_permitted_in_every_spelling() {
        let setting: AllowPrivate =
            serde_json::from_str(r#"["10.1.0.0/16", "127.0.0.1", "fd00::/8"]"#).unwrap();
        for address in [
            "10.1.2.3",
            "::ffff:10.1.2.3",
            "127.0.0.1",
            "fd00::5",
            "8.8.8.8",
        ] {
            assert!(permits(&setting, address), "{address}");
        }
        for address in ["10.2.0.1", "127.0.0.2", "fe80::1"] {
            assert!(!permits(&setting, address), "{address}");
        }
    }

    #[test]
    fn settings_are_read_and_typos_told() {
        let read = serde_json::from_str::<AllowPrivate>;
        assert_eq!(read("true").unwrap(), AllowPrivate::Yes);
        assert_eq!(read("false").unwrap(), AllowPrivate::No);
        for (text, hint) in [
            (r#"["10.0.0.0/99"]"#, "10.0.0.0/99"),
            ("\"yes\"", "true, false"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}
