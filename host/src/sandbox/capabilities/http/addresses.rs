//! Which addresses a request may be sent to: public ones, and those whose range a rule names.
//!
//! Promises: of an answer that mixes addresses only the permitted ones are left; an address that carries another one
//! inside (mapped, translated or tunnelled) is never public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Returns those of `addresses` that are public or in a range of `named`.
pub(super) fn permitted(addresses: impl IntoIterator<Item = IpAddr>, named: &[IpNet]) -> Vec<IpAddr> {
    addresses.into_iter().filter(|ip| is_public(*ip) || named.iter().any(|range| range.contains(ip))).collect()
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// All but what the registries of special addresses (RFC 6890 and after) set apart.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_special = match address.octets() {
        // "This" network, private, loopback.
        [0 | 10 | 127, ..] => true,
        // Carrier-grade translation; in some clouds the metadata service.
        [100, 64..=127, ..] => true,
        // Link-local; in most clouds the metadata service.
        [169, 254, ..] => true,
        [172, 16..=31, ..] | [192, 168, ..] => true,
        // Protocol assignments, 6to4 relays.
        [192, 0, 0, _] | [192, 88, 99, _] => true,
        // Documentation.
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        // Benchmarks.
        [198, 18 | 19, ..] => true,
        // A public address that inside one cloud is its control service.
        [168, 63, 129, 16] => true,
        // Multicast, reserved, broadcast.
        [224..=255, ..] => true,
        _ => false,
    };
    !is_special
}

/// Only global unicast (2000::/3) is public, and of it not what is set apart. Outside of it lie loopback, v4-mapped and
/// v4-compatible, NAT64, discard, unique-local, link-local, site-local and multicast.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let is_special = match address.segments() {
        // Protocol assignments: Teredo, benchmarks, ORCHID.
        [0x2001, 0..=0x01ff, ..] => true,
        // Documentation.
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => true,
        // 6to4.
        [0x2002, ..] => true,
        [first, ..] => first & 0xe000 != 0x2000,
    };
    !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn public(address: &str, expected: bool) {
        assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn what_is_set_apart_is_not_public() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.1",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            public(address, false);
        }
        for address in [
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            public(address, false);
        }
    }

    #[test]
    fn the_rest_is_public() {
        for address in
            ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "223.255.255.1"]
        {
            public(address, true);
        }
        for address in ["2001:4860:4860::8888", "2606:4700::1111", "2a00:1450::1"] {
            public(address, true);
        }
    }

    #[test]
    fn of_a_mixed_answer_only_the_permitted_are_left() {
        let answer = ["10.0.0.1", "8.8.8.8", "::ffff:10.0.0.1"].map(|ip| ip.parse().unwrap());
        let left = |named: &[&str]| {
            let named: Vec<IpNet> = named.iter().map(|range| range.parse().unwrap()).collect();
            permitted(answer, &named).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(left(&[]), ["8.8.8.8"]);
        assert_eq!(left(&["10.0.0.0/8"]), ["10.0.0.1", "8.8.8.8"]);
        assert_eq!(left(&["192.168.0.0/16"]), ["8.8.8.8"]);
    }
}
