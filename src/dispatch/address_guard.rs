//! Keeps webhooks out of the network Driftline runs in: refuses private addresses when connecting.
//!
//! A check of the URL alone would miss a public name that resolves to a private address, and one that does so
//! only the second time; the resolver of the HTTP client is where the address that is used can be seen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A host has no address that this receiver may connect to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{host}` is at {address}, which is {reason}; set `allow_private: true` if that is meant")]
pub struct RefusedAddress {
    pub host: String,
    pub address: IpAddr,
    pub reason: &'static str,
}

/// Why an address is not on the public internet; `None` if it is. The blocks are those of the IANA
/// special-purpose registries (RFC 6890); cloud metadata services stand in link-local, shared and unique local ones.
pub fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refusal_v4(address),
        IpAddr::V6(address) => refusal_v6(address),
    }
}

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("unspecified"),
        [127, ..] => Some("loopback"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("private"),
        [100, 64..=127, ..] => Some("shared (carrier-grade) address space"),
        [169, 254, ..] => Some("link-local (cloud metadata)"),
        [192, 0, 0, _] | [198, 18..=19, ..] | [192, 88, 99, _] => Some("reserved"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("for documentation only"),
        [224..=239, ..] => Some("multicast"),
        [240..=255, ..] => Some("reserved or broadcast"),
        _ => None,
    }
}

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        refusal_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        // Addresses that stand for an IPv4 one: mapped, compatible, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] => embedded(high, low),
        [0, 0, 0, 0, 0, 0, high, low] => embedded(high, low).or(Some("reserved")),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] => Some("private"),
        [0x2002, high, low, ..] => embedded(high, low),
        [0x2001, 0, ..] => Some("reserved (Teredo)"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("for documentation only"),
        [0x100, 0, 0, 0, ..] => Some("reserved (discard)"),
        [0xfc00..=0xfdff, ..] => Some("private (unique local)"),
        [0xfe80..=0xfebf, ..] => Some("link-local"),
        [0xfec0..=0xfeff, ..] => Some("private (site-local)"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        _ => None,
    }
}

/// Checks a URL's host where it is written as an address: the HTTP client connects to those without asking a
/// resolver. `host` is as `Url::host_str` gives it, so every spelling of an IPv4 address has become the usual one.
pub fn check_literal(host: &str) -> Result<(), RefusedAddress> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => match refusal(address) {
            Some(reason) => Err(RefusedAddress { host: host.to_string(), address, reason }),
            None => Ok(()),
        },
        Err(_) => Ok(()), // a name: the resolver sees what is behind it
    }
}

/// The addresses of `host` that may be connected to; an error if there are only others.
pub fn public_only(host: &str, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, RefusedAddress> {
    let refused = addresses.iter().find_map(|address| refusal(address.ip()).map(|reason| (address.ip(), reason)));
    let public: Vec<SocketAddr> = addresses.into_iter().filter(|address| refusal(address.ip()).is_none()).collect();
    match refused {
        Some((address, reason)) if public.is_empty() => Err(RefusedAddress { host: host.to_string(), address, reason }),
        _ => Ok(public),
    }
}

/// The system's resolver, with only public addresses let through.
#[derive(Debug, Clone, Copy, Default)]
pub struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().to_string();
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let public = public_only(&host, addresses)?;
            let public: Addrs = Box::new(public.into_iter());
            Ok(public)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_a_private_address_passes() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.254",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.100.100.200",
            "169.254.169.254",
            "192.0.0.192",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "2001::1",
            "2001:db8::1",
            "100::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert!(refusal(address).is_some(), "{text} passed");
        }
    }

    #[test]
    fn public_addresses_pass() {
        for text in [
            "8.8.8.8",
            "1.1.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "169.253.0.1",
            "223.255.255.255",
            "192.0.1.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(refusal(address), None, "{text}");
        }
    }

    #[test]
    fn a_name_with_one_public_address_uses_only_that() {
        let public: SocketAddr = "8.8.8.8:0".parse().unwrap();
        let private: SocketAddr = "10.0.0.1:0".parse().unwrap();
        assert_eq!(public_only("x", vec![private, public]), Ok(vec![public]));
        let refused = public_only("x", vec![private]).unwrap_err();
        assert_eq!((refused.host.as_str(), refused.address), ("x", private.ip()));
        assert_eq!(public_only("x", vec![]), Ok(vec![]));
    }

    #[test]
    fn addresses_in_urls_are_seen_however_they_are_written() {
        for url in ["http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/", "http://[::ffff:127.0.0.1]/"] {
            let url = reqwest::Url::parse(url).unwrap();
            assert!(check_literal(url.host_str().unwrap()).is_err(), "{url} passed");
        }
        assert_eq!(check_literal("hooks.example.com"), Ok(()));
    }
}
