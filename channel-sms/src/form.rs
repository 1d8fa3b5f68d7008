//! `application/x-www-form-urlencoded`, read strictly: of what two readers may read
//! differently, nothing is believed.

use std::collections::BTreeSet;

/// More than any callback has.
const MAX_FIELDS: usize = 256;

/// The fields of a form, in the order in which Twilio signs them: by name and then by value,
/// each pair once.
#[derive(PartialEq, Eq)]
pub(crate) struct Form(BTreeSet<(String, String)>);

impl Form {
    /// Reads a body ([URL Standard](https://url.spec.whatwg.org/#application/x-www-form-urlencoded)).
    /// Unlike a browser it refuses what does not follow the rules: a stray `%`, text that is no
    /// UTF-8, a field without a name or without `=`.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let mut fields = BTreeSet::new();
        if body.is_empty() {
            return Some(Self(fields));
        }
        for (count, field) in body.split(|byte| *byte == b'&').enumerate() {
            let equals = field.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (decode(&field[..equals])?, decode(&field[equals + 1..])?);
            if name.is_empty() || count == MAX_FIELDS {
                return None;
            }
            fields.insert((name, value));
        }
        Some(Self(fields))
    }

    /// In the order in which they are signed.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of a field; `None` also when it has several.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.fields().filter(|(key, _)| *key == name);
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }
}

fn decode(text: &[u8]) -> Option<String> {
    let mut bytes = text.iter();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex(*bytes.next()?)? << 4 | hex(*bytes.next()?)?,
            byte if byte.is_ascii_graphic() => *byte,
            _ => return None,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Option<Vec<(String, String)>> {
        Some(Form::read(body.as_bytes())?.0.into_iter().collect())
    }

    #[test]
    fn fields_are_decoded_and_sorted() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (body, expected) in [
            ("", vec![]),
            (
                "b=2&a=1&B=%2b1+%C3%A9",
                vec![pair("B", "+1 é"), pair("a", "1"), pair("b", "2")],
            ),
            ("a=2&a=1&a=2", vec![pair("a", "1"), pair("a", "2")]),
            ("a=&b==c", vec![pair("a", ""), pair("b", "=c")]),
            ("a%3Db=%26", vec![pair("a=b", "&")]),
        ] {
            assert_eq!(fields(body), Some(expected), "{body}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for body in [
            "a", "=1", "a=1&", "&a=1", "a=1&&b=2", "a=%", "a=%2", "a=%2x", "a=%+1", "a=%FF",
            "a=\n", "a= ", "a=é", "a=\0",
        ] {
            assert_eq!(fields(body), None, "{body:?}");
        }
    }

    #[test]
    fn a_field_with_two_values_has_none() {
        let form = Form::read(b"a=1&a=2&b=1&b=1").unwrap();
        assert_eq!(
            (form.get("a"), form.get("b"), form.get("c")),
            (None, Some("1"), None)
        );
    }

    #[test]
    fn fields_are_bounded() {
        let many = |count: usize| vec!["a=1"; count].join("&");
        assert!(fields(&many(MAX_FIELDS)).is_some());
        assert!(fields(&many(MAX_FIELDS + 1)).is_none());
    }
}
