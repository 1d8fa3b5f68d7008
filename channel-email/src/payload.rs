//! The fields of a payload that make a mail.

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// A payload as the application wrote it. Other fields belong to other channels.
#[derive(Deserialize)]
pub(crate) struct Payload {
    #[serde(default)]
    pub(crate) to: Addresses,
    #[serde(default)]
    pub(crate) cc: Addresses,
    #[serde(default)]
    pub(crate) bcc: Addresses,
    pub(crate) from: Option<String>,
    #[serde(default)]
    pub(crate) reply_to: Addresses,
    pub(crate) subject: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) html: Option<String>,
    pub(crate) headers: Option<BTreeMap<String, String>>,
    pub(crate) attachments: Option<Vec<Attachment>>,
}

#[derive(Deserialize)]
pub(crate) struct Attachment {
    pub(crate) filename: Option<String>,
    pub(crate) content_type: Option<String>,
    /// Base64, with padding.
    pub(crate) content: String,
    /// Shown in the text, not beside it.
    pub(crate) inline: Option<bool>,
    /// What `<img src="cid:…">` in the HTML refers to; makes it inline unless told otherwise.
    pub(crate) content_id: Option<String>,
}

impl Payload {
    /// What the contents weigh in bytes: no more than the message made of them.
    pub(crate) fn weight(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let attachments = self.attachments.iter().flatten();
        let attached: usize = attachments.map(|attachment| attachment.content.len()).sum();
        length(&self.text) + length(&self.html) + attached
    }
}

/// A string, a list of strings, or nothing.
#[derive(Default)]
pub(crate) struct Addresses(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AddressesVisitor)
    }
}

struct AddressesVisitor;

impl<'de> Visitor<'de> for AddressesVisitor {
    type Value = Addresses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address or a list of addresses")
    }

    fn visit_str<E>(self, address: &str) -> Result<Addresses, E> {
        Ok(Addresses(vec![address.to_owned()]))
    }

    fn visit_unit<E>(self) -> Result<Addresses, E> {
        Ok(Addresses::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Addresses, A::Error> {
        let mut addresses = Vec::new();
        while let Some(address) = list.next_element()? {
            addresses.push(address);
        }
        Ok(Addresses(addresses))
    }
}
