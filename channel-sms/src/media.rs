//! The addresses of pictures and other media.

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use std::fmt;

/// One address or several.
#[derive(Default)]
pub(crate) struct MediaUrls(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for MediaUrls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMany)
    }
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = MediaUrls;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL or a list of URLs")
    }

    fn visit_str<E: Error>(self, url: &str) -> Result<MediaUrls, E> {
        Ok(MediaUrls(vec![url.to_owned()]))
    }

    fn visit_unit<E: Error>(self) -> Result<MediaUrls, E> {
        Ok(MediaUrls::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<MediaUrls, A::Error> {
        let mut urls = Vec::new();
        while let Some(url) = items.next_element()? {
            urls.push(url);
        }
        Ok(MediaUrls(urls))
    }
}
