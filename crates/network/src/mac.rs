//! Hardware addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::error::{NetworkError, Result};
use crate::ipam::fnv;

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

/// Text that is no Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address: {0}")]
pub struct InvalidMac(pub String);

impl MacAddr {
    /// An address by its bytes.
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// An endpoint's address, made from its IP address: whoever has seen an earlier holder of the one finds the
    /// next at the same place. (Docker 28 gives random ones and has to announce each.)
    pub fn of_endpoint(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                Self([0x02, 0x42, a, b, c, d])
            }
            // On a network without IPv4. Not all 128 bits fit, so it is a hash of them.
            IpAddr::V6(ip) => {
                let [.., a, b, c, d, e] = fnv(&ip.octets()).to_be_bytes();
                Self([0x06, a, b, c, d, e])
            }
        }
    }

    /// A random address: unicast, locally administered, for bridges.
    pub fn random() -> Result<Self> {
        let mut octets = [0; 6];
        rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| NetworkError::Namespace { operation: "get random bytes", source: e.into() })?;
        octets[0] = (octets[0] & 0xfc) | 0x02;
        Ok(Self(octets))
    }

    /// Its bytes.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = InvalidMac;
    fn from_str(s: &str) -> std::result::Result<Self, InvalidMac> {
        let invalid = || InvalidMac(s.to_owned());
        let parts: Vec<&str> = s.split([':', '-']).collect();
        let mut octets = [0; 6];
        if parts.len() != octets.len() {
            return Err(invalid());
        }
        for (octet, part) in octets.iter_mut().zip(parts) {
            if part.len() != 2 || part.starts_with('+') {
                return Err(invalid());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        Ok(Self(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let mac: MacAddr = "02:42:AC-11-00:02".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        for wrong in ["", "02:42", "02:42:ac:11:00:+2", "02:42:ac:11:00:02:03", "2:42:ac:11:00:02", "zz:42:ac:11:00:02"]
        {
            assert!(wrong.parse::<MacAddr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn endpoints_have_theirs_from_their_ip() {
        let of = |ip: &str| MacAddr::of_endpoint(ip.parse().unwrap());
        assert_eq!(of("172.17.0.2").to_string(), "02:42:ac:11:00:02");
        assert_eq!(of("fd00::2"), of("fd00::2"));
        assert_ne!(of("fd00::2"), of("fd00::3"));
        assert_eq!(of("fd00::2").octets()[0] & 3, 2, "local and unicast");
    }

    #[test]
    fn random_ones_are_local_unicast() {
        for _ in 0..64 {
            assert_eq!(MacAddr::random().unwrap().octets()[0] & 3, 2);
        }
    }
}
