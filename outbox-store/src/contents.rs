//! What an event says: its payload and headers. They are read with many others when they are small,
//! and left behind, to be read when their turn comes, when they are large.

use crate::error::StoreError;
use crate::fault::{Step, around};
use crate::store::Store;
use serde_json::value::RawValue;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgValueRef, Postgres};
use sqlx::types::Json;
use sqlx::{Decode, ValueRef};
use std::collections::BTreeMap;

/// What an event says, or how much that is.
#[derive(Clone)]
pub enum Contents {
    /// All of it.
    Whole {
        /// The JSON that the application wrote, as text.
        payload: Box<RawValue>,
        /// Free text pairs beside the payload.
        headers: BTreeMap<String, String>,
    },
    /// More than was asked for: so many bytes of text.
    TooLarge(u64),
}

/// What a payload says about `channels`.
#[derive(Debug, Clone)]
pub enum NamedChannels {
    /// Nothing.
    None,
    /// This JSON.
    Named(Box<RawValue>),
    /// More than was asked for: so many bytes of text.
    TooLarge(u64),
}

impl Store {
    /// What an event says, if that is no more than `most` bytes of text; `None` when somebody has
    /// deleted the event.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn contents(&self, event_id: i64, most: u64) -> Result<Option<Contents>, StoreError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let contents = sqlx::query_file!("sql/contents.sql", event_id, most);
        let trimmed = self.pool.clone().trimmed();
        let row = around(Step::Contents, contents.fetch_optional(&trimmed))
            .await
            .map_err(StoreError::during("read a large payload"))?;
        Ok(row.map(|row| match row.payload.zip(row.headers) {
            Some((payload, headers)) => Contents::Whole {
                payload: payload.0,
                headers: text_pairs(&headers.0),
            },
            None => Contents::TooLarge(row.bytes.unsigned_abs()),
        }))
    }

    /// What an event's payload says about `channels`, if that is no more than `most` bytes of
    /// text; `None` when somebody has deleted the event.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn named_channels(
        &self,
        event_id: i64,
        most: u32,
    ) -> Result<Option<NamedChannels>, StoreError> {
        let most = i32::try_from(most).unwrap_or(i32::MAX);
        let named = sqlx::query_file!("sql/named_channels.sql", event_id, most);
        let row = around(Step::NamedChannels, named.fetch_optional(&self.pool))
            .await
            .map_err(StoreError::during("look for channels in a large payload"))?;
        Ok(row.map(|row| match (row.channels, row.bytes) {
            (Some(channels), _) => NamedChannels::Named(channels.0),
            (None, Some(bytes)) => NamedChannels::TooLarge(bytes.unsigned_abs().into()),
            (None, None) => NamedChannels::None,
        }))
    }
}

/// As a payload is sent with many others, or headers: cut off where it would be too long.
pub(crate) struct Excerpt(Option<Box<RawValue>>);

impl Excerpt {
    /// Bytes of text.
    pub(crate) const MOST: u64 = 32 * 1024;
    /// The version of the format, and one byte more than is wanted.
    const CUT_AT: usize = 1 + 32 * 1024 + 1;

    /// `None`: it was cut.
    pub(crate) fn whole(self) -> Option<Box<RawValue>> {
        self.0
    }
}

impl<'r> Decode<'r, Postgres> for Excerpt {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let kind = value.type_info().into_owned();
        match value.as_bytes()? {
            cut if cut.len() >= Self::CUT_AT => Ok(Self(None)),
            [1, json @ ..] => Ok(Self(Some(serde_json::from_slice(json)?))),
            _ => Err(format!("unknown version of jsonb, as {kind}").into()),
        }
    }
}

/// Headers are text; what an application wrote as something else stands as its JSON.
pub(crate) fn text_pairs(headers: &RawValue) -> BTreeMap<String, String> {
    if headers.get() == "{}" {
        return BTreeMap::new();
    }
    let values: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(headers.get()).unwrap_or_default();
    // Not as a number: it may be larger than any of ours.
    let as_text = |value: Box<RawValue>| {
        serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
    };
    values
        .into_iter()
        .map(|(name, value)| (name, as_text(value)))
        .collect()
}
