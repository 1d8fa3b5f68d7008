//! The name an operator gives a channel.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A channel's name: `[a-z0-9_]+`, at most 63 characters. Cheap to clone.
///
/// ```
/// # use outbox_channel::ChannelName;
/// let name: ChannelName = "crm_eu".parse()?;
/// assert_eq!(name.as_str(), "crm_eu");
/// assert!("CRM".parse::<ChannelName>().is_err());
/// # Ok::<(), outbox_channel::InvalidChannelName>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelName(Arc<str>);

/// Not `[a-z0-9_]+` of at most 63 characters.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{0}` is not a channel name: use 1 to 63 of a-z, 0-9 and _")]
pub struct InvalidChannelName(String);

impl ChannelName {
    const MAX_LENGTH: usize = 63;

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ChannelName {
    type Error = InvalidChannelName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let valid = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        if name.is_empty() || name.len() > Self::MAX_LENGTH || !name.bytes().all(valid) {
            return Err(InvalidChannelName(name.chars().take(80).collect()));
        }
        Ok(Self(name.into()))
    }
}

impl std::str::FromStr for ChannelName {
    type Err = InvalidChannelName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        name.to_owned().try_into()
    }
}

impl From<ChannelName> for String {
    fn from(name: ChannelName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl std::borrow::Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
