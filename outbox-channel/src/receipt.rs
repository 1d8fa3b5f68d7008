//! What a provider said when it took a message.

/// A provider has accepted the message.
///
/// ```
/// # use outbox_channel::Receipt;
/// let receipt = Receipt::new().with_provider_id("SM0f3…");
/// assert_eq!(receipt.provider_id(), Some("SM0f3…"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    provider_id: Option<String>,
}

impl Receipt {
    pub(crate) const MAX_PROVIDER_ID: usize = 255;

    /// Accepted, with nothing else to tell.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The name under which the provider knows the message, to ask it later. Kept with the
    /// result; at most 255 characters of it.
    #[must_use]
    pub fn with_provider_id(mut self, id: impl Into<String>) -> Self {
        let mut id = id.into();
        crate::error::shorten(&mut id, Self::MAX_PROVIDER_ID);
        self.provider_id = Some(id);
        self
    }

    /// The name under which the provider knows the message.
    #[must_use]
    pub fn provider_id(&self) -> Option<&str> {
        self.provider_id.as_deref()
    }
}
