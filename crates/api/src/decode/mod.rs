//! From a body's bytes to a wire type, by the rules of Docker's decoder and two stricter ones of ours.
//!
//! As in Docker: keys match without regard to case, `null` is the same as absent, unknown keys are ignored, and what
//! follows the value is refused. Stricter: a key given twice (also in another case) is refused, because programs that
//! check a request and programs that act on it disagree about which one counts; and depth and size are bounded.

mod de;
mod tree;

use serde::de::DeserializeOwned;

pub use self::de::DecodeError;
pub use self::tree::Tree;
use crate::error::{RequestError, Result};

/// How many bytes of JSON a request may have.
pub const MOST_BYTES: usize = 4 << 20;

/// Reads a body that must be there.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    from_tree(tree(body)?)
}

/// Reads a body that may be empty.
pub fn decode_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T> {
    if body.is_empty() { Ok(T::default()) } else { decode(body) }
}

/// Reads a body as a tree, with every rule that does not depend on a type.
pub fn tree(body: &[u8]) -> Result<Tree> {
    if body.len() > MOST_BYTES {
        return Err(RequestError::invalid(format!("invalid JSON: the body has more than {MOST_BYTES} bytes")));
    }
    let text = String::from_utf8_lossy(body);
    if text.trim_ascii().is_empty() {
        return Err(RequestError::invalid("invalid JSON: got EOF while reading request body"));
    }
    Tree::parse(&text)
}

/// Reads a type from a tree.
pub fn from_tree<T: DeserializeOwned>(tree: Tree) -> Result<T> {
    T::deserialize(tree).map_err(|error| RequestError::invalid(format!("invalid JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Inner {
        memory: i64,
        binds: Option<Vec<String>>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Outer {
        image: String,
        tty: bool,
        labels: Option<BTreeMap<String, String>>,
        host_config: Option<Inner>,
    }

    fn fails(body: &str) -> String {
        decode::<Outer>(body.as_bytes()).unwrap_err().message
    }

    #[test]
    fn keys_match_in_any_case_and_null_is_absent() {
        let body =
            r#"{"IMAGE":"a","tty":null,"hostconfig":{"Bindſ":[null,"b"],"nope":{"x":[1]}},"labels":{"A":"1","a":"2"}}"#;
        let outer: Outer = decode(body.as_bytes()).unwrap();
        assert_eq!(outer.image, "a");
        assert_eq!(outer.host_config.unwrap().binds.unwrap(), ["", "b"]);
        assert_eq!(outer.labels.unwrap().len(), 2);
        assert_eq!(decode_or_default::<Outer>(b"").unwrap(), Outer::default());
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        assert_eq!(fails(r#"{"Image":"a","image":"b"}"#), r#"invalid JSON: key "image" is given twice"#);
        assert_eq!(fails(r#"{"Image":"a","Image":null}"#), r#"invalid JSON: key "Image" is given twice"#);
        assert_eq!(fails(r#"{"Labels":{"a":"1","a":"2"}}"#), r#"invalid JSON: key "a" is given twice"#);
        assert_eq!(fails(r#"{"Other":{"a":"1","a":"2"}}"#), r#"invalid JSON: key "a" is given twice"#);
    }

    #[test]
    fn errors_have_dockers_words() {
        assert_eq!(fails(""), "invalid JSON: got EOF while reading request body");
        assert_eq!(fails("x"), "invalid JSON: invalid character 'x' looking for beginning of value");
        assert_eq!(fails(r#"{"Image":"a"}x"#), "unexpected content after JSON");
        assert_eq!(fails(r#"{"Image":"a"}{}"#), "unexpected content after JSON");
        assert_eq!(fails(r#"{"Image":"#), "invalid JSON: unexpected EOF");
        assert_eq!(
            fails(r#"{"Image":1}"#),
            "invalid JSON: json: cannot unmarshal number into Go struct field .Image of type string"
        );
        assert_eq!(
            fails(r#"{"HostConfig":{"Memory":"x"}}"#),
            "invalid JSON: json: cannot unmarshal string into Go struct field .HostConfig.Memory of type int64"
        );
        assert!(fails("[]").starts_with("invalid JSON: json: cannot unmarshal array into Go value"));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        assert!(fails(&"[".repeat(100_000)).contains("recursion limit"));
        assert!(fails(&format!("{{\"x\":[{}1]}}", "1,".repeat(400_000))).contains("more than"));
        let long = vec![b' '; MOST_BYTES + 1];
        assert!(decode::<Outer>(&long).unwrap_err().message.contains("more than"));
    }
}
