//! Messages of the domain name system (RFC 1035), as far as a resolver of containers' names needs them.
//!
//! A query is read as far as its one question and what its sender can take; answers to it are written. What is
//! forwarded stays bytes. Every read is bounded by the message: it comes from a container.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const TYPE_A: u16 = 1;
pub(super) const TYPE_PTR: u16 = 12;
pub(super) const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;

/// Response codes.
pub(super) const FORMAT_ERROR: u8 = 1;
pub(super) const SERVER_FAILURE: u8 = 2;
pub(super) const NOT_IMPLEMENTED: u8 = 4;
pub(super) const REFUSED: u8 = 5;

const HEADER: usize = 12;
/// What a client without EDNS can take over UDP.
const PLAIN_UDP: usize = 512;
/// Docker's time to live, in seconds.
const TIME_TO_LIVE: u32 = 600;
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
const RECURSION_AVAILABLE: u8 = 0x80;
/// A name has at most 255 bytes, and so fewer labels than this.
const LABELS: usize = 128;

/// A query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query<'a> {
    bytes: &'a [u8],
    /// Where the question ends.
    end: usize,
    /// The name in lower case without its final dot.
    pub(super) name: String,
    pub(super) kind: u16,
    class: u16,
    /// How long an answer over UDP may be.
    pub(super) limit: usize,
}

/// Bytes that are no query with one question; with what to answer, if anything.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoQuery(pub(super) Option<Vec<u8>>);

impl<'a> Query<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, NoQuery> {
        let (Some(flags), Some(questions)) = (bytes.get(2).copied(), u16_at(bytes, 4)) else {
            return Err(NoQuery(None));
        };
        if bytes.len() < HEADER || flags & RESPONSE != 0 {
            return Err(NoQuery(None));
        }
        if flags & 0x78 != 0 {
            return Err(NoQuery(Some(header_only(bytes, NOT_IMPLEMENTED))));
        }
        let wrong = || NoQuery(Some(header_only(bytes, FORMAT_ERROR)));
        if questions != 1 {
            return Err(wrong());
        }
        let (name, at) = name_at(bytes, HEADER).ok_or_else(wrong)?;
        let (kind, class) = (u16_at(bytes, at).ok_or_else(wrong)?, u16_at(bytes, at + 2).ok_or_else(wrong)?);
        let end = at + 4;
        let limit = udp_size(bytes, end).map_or(PLAIN_UDP, |size| usize::from(size).max(PLAIN_UDP));
        Ok(Self { bytes, end, name, kind, class, limit })
    }

    /// Whether it asks about the internet, as all but curiosities do.
    pub(super) fn is_internet(&self) -> bool {
        self.class == CLASS_IN
    }

    /// The address that it asks the name of.
    pub(super) fn address(&self) -> Option<IpAddr> {
        if let Some(labels) = self.name.strip_suffix(".in-addr.arpa") {
            let parts: Vec<u8> = labels.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
            let [d, c, b, a] = parts.try_into().ok()?;
            return Some(Ipv4Addr::new(a, b, c, d).into());
        }
        let labels = self.name.strip_suffix(".ip6.arpa")?;
        let nibbles: Vec<&str> = labels.split('.').collect();
        if nibbles.len() != 32 || nibbles.iter().any(|n| n.len() != 1) {
            return None;
        }
        let digits: String = nibbles.into_iter().rev().collect();
        Some(Ipv6Addr::from(u128::from_str_radix(&digits, 16).ok()?).into())
    }

    /// A response without an answer.
    pub(super) fn respond(&self, code: u8) -> Vec<u8> {
        let mut response = header_only(self.bytes, code);
        response[5] = 1;
        response.extend_from_slice(&self.bytes[HEADER..self.end]);
        response
    }

    /// A response with addresses.
    pub(super) fn answer_addresses(&self, addresses: &[IpAddr]) -> Vec<u8> {
        let mut response = self.respond(0);
        for address in addresses {
            match address {
                IpAddr::V4(address) => push_record(&mut response, TYPE_A, &address.octets()),
                IpAddr::V6(address) => push_record(&mut response, TYPE_AAAA, &address.octets()),
            }
        }
        response
    }

    /// A response with a name.
    pub(super) fn answer_name(&self, name: &str) -> Vec<u8> {
        let mut data = Vec::new();
        for label in name.trim_end_matches('.').split('.') {
            let label = &label.as_bytes()[..label.len().min(63)];
            data.push(label.len() as u8);
            data.extend_from_slice(label);
        }
        data.push(0);
        let mut response = self.respond(0);
        push_record(&mut response, TYPE_PTR, &data);
        response
    }

    /// A response that says that there is a longer one, over TCP.
    pub(super) fn truncated(&self) -> Vec<u8> {
        let mut response = self.respond(0);
        response[2] |= TRUNCATED;
        response
    }

    /// A response as it may go out over UDP: if it is too long, its beginning with the mark that there is more.
    pub(super) fn fit(&self, mut response: Vec<u8>) -> Vec<u8> {
        if response.len() > self.limit {
            let code = response[3] & 0x0f;
            response = self.respond(code);
            response[2] |= TRUNCATED;
        }
        response
    }
}

/// Whether a server's response is one to this question, and not anybody's bytes.
pub(super) fn is_response_to(response: &[u8], query: &Query<'_>, id: u16) -> bool {
    let has_header = response.len() >= HEADER && response[2] & RESPONSE != 0 && u16_at(response, 0) == Some(id);
    // A server that refuses may leave out the question.
    let question = u16_at(response, 4);
    if !has_header || question != Some(1) {
        return has_header && question == Some(0) && response[3] & 0x0f != 0;
    }
    let Some((name, at)) = name_at(response, HEADER) else { return false };
    name == query.name && u16_at(response, at) == Some(query.kind)
}

/// Whether a server could not help: the next may.
pub(super) fn is_refusal(response: &[u8]) -> bool {
    response.get(3).is_some_and(|code| matches!(code & 0x0f, SERVER_FAILURE | REFUSED | NOT_IMPLEMENTED))
}

fn header_only(query: &[u8], code: u8) -> Vec<u8> {
    let mut header = vec![0; HEADER];
    header[..2].copy_from_slice(&query[..2]);
    // What was asked (operation, recursion desired) is repeated.
    header[2] = RESPONSE | (query[2] & 0x79);
    header[3] = RECURSION_AVAILABLE | code;
    header
}

fn push_record(response: &mut Vec<u8>, kind: u16, data: &[u8]) {
    // The name is the question's, by reference.
    response.extend_from_slice(&[0xc0, HEADER as u8]);
    response.extend_from_slice(&kind.to_be_bytes());
    response.extend_from_slice(&CLASS_IN.to_be_bytes());
    response.extend_from_slice(&TIME_TO_LIVE.to_be_bytes());
    response.extend_from_slice(&(data.len() as u16).to_be_bytes());
    response.extend_from_slice(data);
    let count = u16::from_be_bytes([response[6], response[7]]).saturating_add(1);
    response[6..8].copy_from_slice(&count.to_be_bytes());
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The name at a place, and where it ends. References are not followed: a question comes first, so has none.
fn name_at(bytes: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    for _ in 0..LABELS {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        if length > 63 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        let label = bytes.get(at..at + length)?;
        name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        at += length;
    }
    None
}

/// How long a datagram the sender takes, if it says so (EDNS, RFC 6891).
fn udp_size(bytes: &[u8], mut at: usize) -> Option<u16> {
    let records = u16_at(bytes, 6)?.checked_add(u16_at(bytes, 8)?)?.checked_add(u16_at(bytes, 10)?)?;
    for _ in 0..records {
        at = skip_name(bytes, at)?;
        let (kind, class) = (u16_at(bytes, at)?, u16_at(bytes, at + 2)?);
        if kind == TYPE_OPT {
            return Some(class);
        }
        at += 10 + usize::from(u16_at(bytes, at + 8)?);
    }
    None
}

pub(super) fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..LABELS {
        match usize::from(*bytes.get(at)?) {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + length,
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A query as a client writes it.
    pub(in crate::dns) fn query(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&1_u16.to_be_bytes());
        if let Some(size) = edns {
            bytes.extend_from_slice(&[0, 0, 41]);
            bytes.extend_from_slice(&size.to_be_bytes());
            bytes.extend_from_slice(&[0; 6]);
        }
        bytes
    }

    #[test]
    fn a_query_is_read() {
        let bytes = query("Web.Example", TYPE_A, Some(1232));
        let parsed = Query::parse(&bytes).unwrap();
        assert_eq!((parsed.name.as_str(), parsed.kind, parsed.limit), ("web.example", TYPE_A, 1232));
        assert!(parsed.is_internet());
        let bytes = query("web", TYPE_AAAA, None);
        assert_eq!(Query::parse(&bytes).unwrap().limit, 512);
        assert_eq!(Query::parse(&query("", TYPE_A, Some(100))).unwrap().limit, 512, "never less");
    }

    #[test]
    fn an_answer_repeats_the_question() {
        let bytes = query("Web", TYPE_A, Some(4096));
        let parsed = Query::parse(&bytes).unwrap();
        let answer = parsed.answer_addresses(&["10.1.2.3".parse().unwrap(), "fd00::1".parse().unwrap()]);
        assert_eq!(&answer[..2], &bytes[..2]);
        assert_eq!((answer[2], answer[3], answer[5], answer[7], answer[11]), (0x81, 0x80, 1, 2, 0));
        assert_eq!(&answer[12..16], b"\x03Web", "in the letters of who asked");
        assert_eq!(&answer[33..37], &[10, 1, 2, 3]);
        assert!(is_response_to(&answer, &parsed, 0x1234));
        assert!(!is_response_to(&answer, &parsed, 0x1235));
        assert!(!is_response_to(&bytes, &parsed, 0x1234), "a query is no response");
    }

    #[test]
    fn addresses_are_asked_backwards() {
        let of = |name: &str| Query::parse(&query(name, TYPE_PTR, None)).unwrap().address();
        assert_eq!(of("3.2.1.10.in-addr.arpa"), Some("10.1.2.3".parse().unwrap()));
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(of(six), Some("fd00::1".parse().unwrap()));
        for wrong in ["2.1.10.in-addr.arpa", "x.in-addr.arpa", "300.1.1.1.in-addr.arpa", "1.ip6.arpa", "web"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn long_answers_are_cut_for_udp() {
        let bytes = query("many", TYPE_A, None);
        let parsed = Query::parse(&bytes).unwrap();
        let many: Vec<IpAddr> = (0..100).map(|i| Ipv4Addr::new(10, 0, 0, i).into()).collect();
        let whole = parsed.answer_addresses(&many);
        let cut = parsed.fit(whole.clone());
        assert!(cut.len() <= 512 && cut[2] & TRUNCATED != 0 && whole.len() > 512);
        assert_eq!(parsed.fit(parsed.answer_addresses(&many[..3])).len(), 22 + 3 * 16);
    }

    #[test]
    fn what_is_no_query_is_refused_or_ignored() {
        assert_eq!(Query::parse(&[]), Err(NoQuery(None)));
        let mut response = query("a", TYPE_A, None);
        response[2] |= 0x80;
        assert_eq!(Query::parse(&response), Err(NoQuery(None)), "two servers must not answer one another");
        let mut update = query("a", TYPE_A, None);
        update[2] |= 0x28;
        let Err(NoQuery(Some(refusal))) = Query::parse(&update) else { panic!("an update was taken") };
        assert_eq!(refusal[3] & 0x0f, NOT_IMPLEMENTED);
        let whole = query("web.example", TYPE_A, Some(1232));
        for length in 0..whole.len() {
            let _ = Query::parse(&whole[..length]);
        }
        for position in 0..whole.len() {
            let mut broken = whole.clone();
            broken[position] = 0xff;
            let _ = Query::parse(&broken);
        }
    }

    #[test]
    fn a_name_is_answered() {
        let bytes = query("2.0.18.172.in-addr.arpa", TYPE_PTR, None);
        let answer = Query::parse(&bytes).unwrap().answer_name("web.net");
        assert!(answer.ends_with(b"\x03web\x03net\0"));
    }
}
