//! Values into types: a deserialiser that knows where each value came from.
//!
//! It differs from figment's own in three ways. Text from a variable becomes a number or a
//! boolean only where one is asked for, so that a password `0042` or a sender `+15550100`
//! stays as it is. Every key that a struct does not know is found, whether or not its author
//! thought of `deny_unknown_fields`. And all unknown keys are reported at once.

#![expect(
    clippy::result_large_err,
    reason = "figment's error keeps kind and path; settings are read once"
)]

use super::error::Origin;
use super::tree::{Path, Tree};
use figment::Error;
use figment::error::Kind;
use figment::value::{Dict, Num, Value};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use std::cell::RefCell;
use std::collections::btree_map;

pub(super) use super::explain::explain;

/// The names that the struct around a value has.
type Fields = &'static [&'static str];

/// Unknown keys met so far.
pub(super) type Findings = RefCell<Vec<Error>>;

#[derive(Clone)]
pub(super) struct Reader<'a> {
    tree: &'a Tree,
    value: &'a Value,
    path: Path,
    findings: &'a Findings,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        tree: &'a Tree,
        value: &'a Value,
        path: Path,
        findings: &'a Findings,
    ) -> Self {
        Self {
            tree,
            value,
            path,
            findings,
        }
    }

    fn child(&self, step: String, value: &'a Value) -> Self {
        let mut path = self.path.clone();
        path.push(step);
        Self {
            path,
            value,
            ..self.clone()
        }
    }

    /// The value when it is the text of a variable, which has no type of its own.
    fn untyped(&self) -> Option<&'a str> {
        let Value::String(tag, text) = self.value else {
            return None;
        };
        let origin = self.tree.origin_of(*tag);
        matches!(origin, Origin::DotEnv(_) | Origin::Environment(_)).then_some(text)
    }

    fn place(&self, mut error: Error) -> Error {
        if error.path.is_empty() {
            error.path.clone_from(&self.path);
        }
        error
    }

    /// Reads the value; what a type makes of a text that it was given is placed here too.
    fn read<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        let at = self.clone();
        seed.deserialize(self).map_err(|error| at.place(error))
    }

    /// Hands the value over as it is; `fields` are those of the struct that is read,
    /// if it is one.
    fn visit<'de, V: Visitor<'de>>(
        self,
        fields: Option<Fields>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let result = match self.value {
            Value::String(_, text) => visitor.visit_str(text),
            Value::Char(_, character) => visitor.visit_char(*character),
            Value::Bool(_, flag) => visitor.visit_bool(*flag),
            Value::Num(_, number) => number.deserialize_any(visitor),
            Value::Empty(_, empty) => empty.deserialize_any(visitor),
            Value::Dict(_, table) => visitor.visit_map(Entries::new(&self, table, fields)),
            Value::Array(_, items) => visitor.visit_seq(Items::new(&self, items)),
        };
        result.map_err(|error| self.place(error))
    }

    fn visit_number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.untyped().and_then(number) {
            Some(number) => number
                .deserialize_any(visitor)
                .map_err(|error| self.place(error)),
            None => self.visit(None, visitor),
        }
    }
}

/// A whole number, or a decimal one.
fn number(text: &str) -> Option<Num> {
    let text = text.trim();
    let whole = || text.parse().map(Num::U64);
    let negative = || text.parse().map(Num::I64);
    let decimal = || text.parse::<f64>().ok().filter(|number| number.is_finite());
    whole()
        .or_else(|_| negative())
        .ok()
        .or_else(|| decimal().map(Num::F64))
}

/// Reads the numeric types alike.
macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.visit_number(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // Only what cannot be meant as another text: `0042` is none of these.
        let result = match self.untyped() {
            Some("true") => visitor.visit_bool(true),
            Some("false") => visitor.visit_bool(false),
            Some(text) => match text.parse::<i64>() {
                Ok(number) if number.to_string() == text => visitor.visit_i64(number),
                _ => visitor.visit_str(text),
            },
            None => return self.visit(None, visitor),
        };
        result.map_err(|error| self.place(error))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.untyped().and(self.value.to_bool_lossy()) {
            Some(flag) => visitor.visit_bool(flag).map_err(|error| self.place(error)),
            None => self.visit(None, visitor),
        }
    }

    numbers! {
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_f32 deserialize_f64
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Empty(..) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: Fields,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.visit(Some(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: Fields,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let result = match self.value {
            Value::String(_, text) => {
                visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(text.as_str()))
            }
            Value::Dict(_, table) => {
                visitor.visit_enum(MapAccessDeserializer::new(Entries::new(&self, table, None)))
            }
            _ => return self.visit(None, visitor),
        };
        result.map_err(|error| self.place(error))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit(None, visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit(None, visitor)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier
    }
}

/// The entries of a table that its struct knows.
struct Entries<'a> {
    parent: Reader<'a>,
    fields: Option<Fields>,
    rest: btree_map::Iter<'a, String, Value>,
    current: Option<(&'a String, &'a Value)>,
}

impl<'a> Entries<'a> {
    fn new(parent: &Reader<'a>, table: &'a Dict, fields: Option<Fields>) -> Self {
        Self {
            parent: parent.clone(),
            fields,
            rest: table.iter(),
            current: None,
        }
    }

    fn next_known(&mut self) -> Option<(&'a String, &'a Value)> {
        for (key, value) in self.rest.by_ref() {
            let fields = match self.fields {
                Some(fields) if !fields.contains(&key.as_str()) => fields,
                _ => return Some((key, value)),
            };
            let unknown = Kind::UnknownField(key.clone(), fields);
            let unknown = self.parent.place(unknown.into());
            self.parent.findings.borrow_mut().push(unknown);
        }
        None
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.current = self.next_known();
        let Some((key, value)) = self.current else {
            return Ok(None);
        };
        let key_reader: StrDeserializer<'_, Error> = key.as_str().into_deserializer();
        let place = |error| self.parent.child(key.clone(), value).place(error);
        seed.deserialize(key_reader).map(Some).map_err(place)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((key, value)) = self.current.take() else {
            return Err(Error::from("a value was read before its key"));
        };
        self.parent.child(key.clone(), value).read(seed)
    }
}

struct Items<'a> {
    parent: Reader<'a>,
    rest: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
}

impl<'a> Items<'a> {
    fn new(parent: &Reader<'a>, items: &'a [Value]) -> Self {
        Self {
            parent: parent.clone(),
            rest: items.iter().enumerate(),
        }
    }
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some((index, item)) = self.rest.next() else {
            return Ok(None);
        };
        let reader = self.parent.child(format!("[{index}]"), item);
        reader.read(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}
