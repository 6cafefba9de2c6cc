//! A JSON value that keeps its keys as they came and has each only once.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

use crate::error::{RequestError, Result};

/// How many values a body may hold, so that a small body can't become a large tree.
const MOST_VALUES: usize = 200_000;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number above [`i64::MAX`].
    Large(u64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Tree>),
    /// An object, its members in their order.
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// Reads one value and nothing after it.
    pub fn parse(text: &str) -> Result<Self> {
        let values = Cell::new(0);
        let mut parser = serde_json::Deserializer::from_str(text);
        let tree = Seed(&values).deserialize(&mut parser).map_err(|error| explain(&error, text))?;
        parser.end().map_err(|_| RequestError::invalid("unexpected content after JSON"))?;
        Ok(tree)
    }

    /// Whether this is an object without members that have a value.
    pub fn is_empty_object(&self) -> bool {
        matches!(self, Tree::Object(members) if members.iter().all(|(_, value)| *value == Tree::Null))
    }

    /// Takes a member of an object out by its name, in any case; the last of several.
    pub fn take(&mut self, name: &str) -> Option<Tree> {
        let Tree::Object(members) = self else { return None };
        let at = members.iter().rposition(|(key, _)| super::de::same_key(key, name))?;
        Some(members.remove(at).1)
    }
}

/// The decoder's message in Docker's words where Docker has some.
fn explain(error: &serde_json::Error, text: &str) -> RequestError {
    use serde_json::error::Category;
    let first = text.trim_ascii_start().chars().next();
    let starts_value = |c: char| matches!(c, '{' | '[' | '"' | '-' | 't' | 'f' | 'n') || c.is_ascii_digit();
    let detail = match (error.classify(), first) {
        (Category::Eof, _) => "unexpected EOF".to_owned(),
        (Category::Syntax, Some(c)) if !starts_value(c) => {
            format!("invalid character '{c}' looking for beginning of value")
        }
        (Category::Data, _) => {
            let text = error.to_string();
            text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
        }
        (Category::Syntax | Category::Io, _) => error.to_string(),
    };
    RequestError::invalid(format!("invalid JSON: {detail}"))
}

struct Seed<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        self.0.set(self.0.get() + 1);
        if self.0.get() > MOST_VALUES {
            return Err(D::Error::custom(format!("more than {MOST_VALUES} values")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(i64::try_from(value).map_or(Tree::Large(value), Tree::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Seed(self.0))? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            members.push((key, entries.next_value_seed(Seed(self.0))?));
        }
        match repeated(&members) {
            Some(key) => Err(A::Error::custom(format!("key {key:?} is given twice"))),
            None => Ok(Tree::Object(members)),
        }
    }
}

fn repeated(members: &[(String, Tree)]) -> Option<&str> {
    let mut keys: Vec<&str> = members.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

impl<'de> serde::Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = Cell::new(0);
        Seed(&values).deserialize(deserializer)
    }
}

impl serde::de::IntoDeserializer<'_, super::de::DecodeError> for Tree {
    type Deserializer = Tree;

    fn into_deserializer(self) -> Tree {
        self
    }
}

/// A string that is a struct's field, handed to the struct's visitor as its key.
pub(super) struct FieldName(pub(super) &'static str);

impl<'de> Deserializer<'de> for FieldName {
    type Error = super::de::DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_borrowed_str(self.0)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
