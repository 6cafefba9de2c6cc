//! `X-Registry-Auth`: credentials as JSON in base64url.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::error::{RequestError, Result};
use crate::wire::AuthConfig;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);

/// How long the header may be.
const MOST_BYTES: usize = 64 << 10;

/// Reads the header; absent or empty means no credentials.
pub fn decode(header: Option<&str>) -> Result<Option<AuthConfig>> {
    let Some(text) = header.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    let invalid = |reason: &str| RequestError::invalid(format!("invalid X-Registry-Auth header: {reason}"));
    if text.len() > MOST_BYTES {
        return Err(invalid("it is too long"));
    }
    let json = URL_SAFE
        .decode(text)
        .or_else(|_| STANDARD.decode(text))
        .map_err(|_| invalid("must be a valid base64url-encoded string"))?;
    let auth: AuthConfig = crate::decode::decode(&json).map_err(|error| invalid(&error.message))?;
    Ok(Some(split_auth(auth)).filter(|auth| *auth != AuthConfig::default()))
}

/// Fills user name and password from `auth`, base64 of `user:password`, where only that was given.
fn split_auth(mut auth: AuthConfig) -> AuthConfig {
    let encoded = std::mem::take(&mut auth.auth);
    if !auth.username.is_empty() {
        return auth;
    }
    let pair = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some((user, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) {
        auth.username = user.to_owned();
        auth.password = password.trim_end_matches('\0').to_owned();
    }
    auth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_padding_and_alphabet_is_read() {
        let json = br#"{"username":"u>?","password":"p"}"#;
        for engine in [base64::prelude::BASE64_URL_SAFE, base64::prelude::BASE64_STANDARD] {
            let auth = decode(Some(&engine.encode(json))).unwrap().unwrap();
            assert_eq!((auth.username.as_str(), auth.password.as_str()), ("u>?", "p"));
        }
        let unpadded = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(json);
        assert!(decode(Some(&unpadded)).unwrap().is_some());
    }

    #[test]
    fn nothing_is_no_credentials() {
        for nothing in [None, Some(""), Some("e30="), Some("e30")] {
            assert_eq!(decode(nothing).unwrap(), None);
        }
    }

    #[test]
    fn auth_is_split_and_never_printed() {
        let json = format!(r#"{{"Auth":"{}"}}"#, base64::prelude::BASE64_STANDARD.encode("me:sec:ret"));
        let auth = decode(Some(&base64::prelude::BASE64_URL_SAFE.encode(json))).unwrap().unwrap();
        assert_eq!((auth.username.as_str(), auth.password.as_str()), ("me", "sec:ret"));
        assert!(!format!("{auth:?}").contains("sec:ret"));
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in ["!!!", "eA==", "W10="] {
            assert!(decode(Some(nonsense)).unwrap_err().message.starts_with("invalid X-Registry-Auth header"));
        }
    }
}
