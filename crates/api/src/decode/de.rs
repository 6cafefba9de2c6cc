//! A serde deserialiser over [`Tree`] that matches a struct's fields as Go's decoder does.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeSeed, Expected, MapAccess, Unexpected, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

use super::tree::{FieldName, Tree};

/// A value of the wrong type, told as Go tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    what: What,
    /// Field names from the innermost outwards.
    path: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Other(String),
    Type { found: String, wanted: String },
}

impl DecodeError {
    fn within(mut self, field: &'static str) -> Self {
        self.path.push(field);
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Other(text) => f.write_str(text),
            What::Type { found, wanted } if self.path.is_empty() => {
                write!(f, "json: cannot unmarshal {found} into Go value of type {wanted}")
            }
            What::Type { found, wanted } => {
                write!(f, "json: cannot unmarshal {found} into Go struct field ")?;
                for field in self.path.iter().rev() {
                    write!(f, ".{field}")?;
                }
                write!(f, " of type {wanted}")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self { what: What::Other(text.to_string()), path: Vec::new() }
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        let what = What::Type { found: found_type(found), wanted: go_type(&wanted.to_string()) };
        Self { what, path: Vec::new() }
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::invalid_type(found, wanted)
    }

    fn invalid_length(found: usize, wanted: &dyn Expected) -> Self {
        Self::custom(format!("json: {found} elements where {wanted} was expected"))
    }
}

fn found_type(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(_) => "bool".to_owned(),
        Unexpected::Signed(n) if n < 0 => format!("number {n}"),
        Unexpected::Float(n) => format!("number {n}"),
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "number".to_owned(),
        Unexpected::Str(_) => "string".to_owned(),
        Unexpected::Seq => "array".to_owned(),
        Unexpected::Map => "object".to_owned(),
        other => other.to_string(),
    }
}

fn go_type(wanted: &str) -> String {
    match wanted {
        "a string" => "string".to_owned(),
        "a boolean" => "bool".to_owned(),
        "a sequence" => "[]string".to_owned(),
        "a map" => "map[string]string".to_owned(),
        other => match other.as_bytes() {
            [b'i', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => format!("int{}", &other[1..]),
            [b'u', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => format!("uint{}", &other[1..]),
            _ => other.trim_start_matches("struct ").to_owned(),
        },
    }
}

/// Whether Go's decoder takes one key for the other: ASCII without case, and the two letters that fold to ASCII.
pub(super) fn same_key(one: &str, other: &str) -> bool {
    one.chars().map(fold).eq(other.chars().map(fold))
}

fn fold(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

impl Tree {
    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Tree::Null => Unexpected::Unit,
            Tree::Bool(value) => Unexpected::Bool(*value),
            Tree::Int(value) => Unexpected::Signed(*value),
            Tree::Large(value) => Unexpected::Unsigned(*value),
            Tree::Float(value) => Unexpected::Float(*value),
            Tree::Text(value) => Unexpected::Str(value),
            Tree::List(_) => Unexpected::Seq,
            Tree::Object(_) => Unexpected::Map,
        }
    }
}

macro_rules! null_is_zero {
    ($($method:ident => $visit:ident($zero:expr)),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            match self {
                Tree::Null => visitor.$visit($zero),
                other => other.deserialize_any(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Tree {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self {
            Tree::Null => visitor.visit_unit(),
            Tree::Bool(value) => visitor.visit_bool(value),
            Tree::Int(value) => visitor.visit_i64(value),
            Tree::Large(value) => visitor.visit_u64(value),
            Tree::Float(value) => visitor.visit_f64(value),
            Tree::Text(value) => visitor.visit_string(value),
            Tree::List(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            Tree::Object(members) => visitor.visit_map(MapDeserializer::new(members.into_iter())),
        }
    }

    null_is_zero! {
        deserialize_bool => visit_bool(false),
        deserialize_i8 => visit_i64(0),
        deserialize_i16 => visit_i64(0),
        deserialize_i32 => visit_i64(0),
        deserialize_i64 => visit_i64(0),
        deserialize_u8 => visit_u64(0),
        deserialize_u16 => visit_u64(0),
        deserialize_u32 => visit_u64(0),
        deserialize_u64 => visit_u64(0),
        deserialize_f32 => visit_f64(0.0),
        deserialize_f64 => visit_f64(0.0),
        deserialize_str => visit_str(""),
        deserialize_string => visit_str(""),
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self {
            Tree::Null => visitor.visit_none(),
            other => visitor.visit_some(other),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self {
            Tree::Null => Tree::List(Vec::new()).deserialize_any(visitor),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self {
            Tree::Null => Tree::Object(Vec::new()).deserialize_any(visitor),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self {
            Tree::Null => visitor.visit_map(Fields::default()),
            Tree::Object(members) => visitor.visit_map(Fields::new(members, fields)?),
            other => Err(de::Error::invalid_type(other.unexpected(), &visitor)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier ignored_any
    }
}

/// The members of an object that are fields of a struct and have a value.
#[derive(Default)]
struct Fields {
    rest: std::vec::IntoIter<(&'static str, Tree)>,
    next: Option<(&'static str, Tree)>,
}

impl Fields {
    fn new(members: Vec<(String, Tree)>, fields: &'static [&'static str]) -> Result<Self, DecodeError> {
        let mut known: Vec<(&'static str, Tree)> = Vec::with_capacity(members.len());
        for (key, value) in members {
            let Some(field) = fields.iter().find(|field| same_key(field, &key)) else { continue };
            if known.iter().any(|(earlier, _)| earlier == field) {
                return Err(de::Error::custom(format!("key {key:?} is given twice")));
            }
            known.push((field, value));
        }
        known.retain(|(_, value)| *value != Tree::Null);
        Ok(Self { rest: known.into_iter(), next: None })
    }
}

impl<'de> MapAccess<'de> for Fields {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        self.next = self.rest.next();
        match &self.next {
            Some((field, _)) => seed.deserialize(FieldName(field)).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        match self.next.take() {
            Some((field, value)) => seed.deserialize(value).map_err(|error| error.within(field)),
            None => Err(de::Error::custom("a value was read before its key")),
        }
    }
}
