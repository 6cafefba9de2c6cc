//! Random bytes from the kernel.

use crate::error::{Error, Result};

/// 32 random bytes, for an id.
pub(crate) fn bytes() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::hidden("the kernel gives no random bytes", error))?;
    Ok(bytes)
}

/// A random number.
pub(crate) fn number() -> Result<u64> {
    let bytes = bytes()?;
    Ok(bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// A random UUID (version 4, RFC 9562).
pub(crate) fn uuid() -> Result<String> {
    use std::fmt::Write;
    let mut bytes = bytes()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.iter().take(16).enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_uuid_has_its_version_and_variant() {
        let uuid = super::uuid().unwrap();
        let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(&uuid[14..15], "4");
        assert!("89ab".contains(&uuid[19..20]));
    }
}
