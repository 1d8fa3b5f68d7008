//! Who a message is from.

/// Who sends when the message does not say, and who is told. Read from settings by
/// [`SmsConfig::sender`](crate::SmsConfig::sender).
#[derive(Debug, Default)]
pub struct Sender {
    pub(crate) from: Option<String>,
    pub(crate) messaging_service_sid: Option<String>,
    pub(crate) status_callback: Option<String>,
}

/// A number, a short code, a name, a service: Twilio knows which of them are real.
pub(crate) fn is_sender(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}
