//! The `filters` parameter: which values a list, a prune or the events keep.

use std::collections::{BTreeMap, BTreeSet};

use regex_lite::Regex;

use crate::decode::Tree;
use crate::error::{RequestError, Result};

/// Filters by name, each with the values that were given for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Reads both syntaxes: `{"label":{"a=b":true}}` of Go's clients and `{"label":["a=b"]}` of the others.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let invalid = || RequestError::invalid("invalid filter");
        let Ok(Tree::Object(members)) = Tree::parse(text) else { return Err(invalid()) };
        let mut filters = BTreeMap::new();
        for (name, values) in members {
            filters.insert(name, values_of(values).ok_or_else(invalid)?);
        }
        Ok(Self(filters))
    }

    /// Refuses filters that a list does not know.
    pub fn allow(self, known: &[&str]) -> Result<Self> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => Err(RequestError::invalid(format!("invalid filter '{unknown}'"))),
            None => Ok(self),
        }
    }

    /// Whether there is no filter at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a filter was given.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The values of a filter.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Whether `text` is one of the values, or there are none.
    pub fn exact(&self, name: &str, text: &str) -> bool {
        self.any(name, |value| value == text)
    }

    /// Whether one of the values holds for `test`, or there are none.
    pub fn any(&self, name: &str, mut test: impl FnMut(&str) -> bool) -> bool {
        let mut values = self.values(name).peekable();
        values.peek().is_none() || values.any(&mut test)
    }

    /// Whether one of the values, as a regular expression or as plain text, is found in `text`, or there are none.
    pub fn matches(&self, name: &str, text: &str) -> bool {
        self.any(name, |value| match Regex::new(value) {
            Ok(pattern) => pattern.is_match(text),
            Err(_) => text.contains(value),
        })
    }

    /// Whether `text` begins with one of the values, or there are none.
    pub fn prefix(&self, name: &str, text: &str) -> bool {
        self.any(name, |value| text.starts_with(value))
    }

    /// Whether all values, `KEY` or `KEY=VALUE`, hold for the labels.
    pub fn labels(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(name).all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        })
    }

    /// Whether the labels pass `label` and do not have any of `label!`.
    pub fn prune_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let unwanted = self.values("label!").any(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        });
        self.labels("label", labels) && !unwanted
    }

    /// A filter that is true or false; `None` if it was not given.
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        let Some(values) = self.0.get(name) else { return Ok(None) };
        let yes = ["1", "true"].iter().any(|word| values.contains(*word));
        let no = ["0", "false"].iter().any(|word| values.contains(*word));
        match (yes, no) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ => {
                let list = values.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
                Err(RequestError::invalid(format!("invalid filter '{name}=[{list}]'")))
            }
        }
    }

    /// The only value of a filter; several are refused, as Docker does for `until`.
    pub fn single(&self, name: &str) -> Result<Option<&str>> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(Some(value)),
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(RequestError::invalid(format!("more than one {name} filter specified"))),
        }
    }
}

fn values_of(tree: Tree) -> Option<BTreeSet<String>> {
    match tree {
        Tree::Null => Some(BTreeSet::new()),
        Tree::List(items) => items
            .into_iter()
            .map(|item| match item {
                Tree::Text(text) => Some(text),
                Tree::Null => Some(String::new()),
                _ => None,
            })
            .collect(),
        Tree::Object(members) => {
            members.into_iter().map(|(value, set)| matches!(set, Tree::Bool(_) | Tree::Null).then_some(value)).collect()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Filters {
        Filters::parse(text).unwrap()
    }

    #[test]
    fn both_syntaxes_mean_the_same() {
        let go = filters(r#"{"label":{"a=b":true,"c":true},"name":{"x":true}}"#);
        assert_eq!(go, filters(r#"{"label":["a=b","c"],"name":["x"]}"#));
        assert_eq!(filters(""), Filters::default());
        for nonsense in ["{bad", "[]", "\"\"", r#"{"name":"x"}"#, r#"{"name":{"x":1}}"#, r#"{"name":[1]}"#] {
            assert_eq!(Filters::parse(nonsense).unwrap_err().message, "invalid filter", "{nonsense}");
        }
    }

    #[test]
    fn unknown_filters_are_named() {
        let error = filters(r#"{"foo":["a"],"name":["x"]}"#).allow(&["name"]).unwrap_err();
        assert_eq!(error.message, "invalid filter 'foo'");
    }

    #[test]
    fn values_match_as_dockers() {
        let all = filters(r#"{"label":["a=b","c"],"name":["^w.b$","("],"id":["ab"]}"#);
        let labels = |pairs: &[(&str, &str)]| {
            let owned = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            all.labels("label", &owned)
        };
        assert!(labels(&[("a", "b"), ("c", "")]));
        assert!(!labels(&[("a", "x"), ("c", "")]) && !labels(&[("a", "b")]));
        assert!(all.matches("name", "web") && all.matches("name", "a(b") && !all.matches("name", "webs"));
        assert!(all.prefix("id", "abc") && !all.prefix("id", "b") && all.prefix("other", "b"));
    }

    #[test]
    fn flags_are_checked() {
        let of = |text: &str| filters(text).flag("dangling");
        assert_eq!(of("{}"), Ok(None));
        assert_eq!(of(r#"{"dangling":["1"]}"#), Ok(Some(true)));
        assert_eq!(of(r#"{"dangling":{"false":true}}"#), Ok(Some(false)));
        assert_eq!(of(r#"{"dangling":["x"]}"#).unwrap_err().message, "invalid filter 'dangling=[x]'");
        assert!(of(r#"{"dangling":["0","1"]}"#).is_err());
    }
}
