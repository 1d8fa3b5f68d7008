//! What the server's last answer tells.

use lettre::transport::smtp::response::Response;
use outbox_channel::Receipt;

/// The receipt for a mail that was answered thus, with the name the server has given it.
pub(crate) fn receipt(answer: &Response) -> Receipt {
    let queue_id = answer.message().find_map(queue_id);
    queue_id.map_or_else(Receipt::new, |id| Receipt::new().with_provider_id(id))
}

/// Finds it where servers usually put it: `queued as 4F3C21A0B5` (Postfix, and those that
/// imitate it), `OK id=1hXyZ0-0001ab-Cd` (Exim).
fn queue_id(line: &str) -> Option<&str> {
    let (_, rest) = ["queued as ", " id="]
        .iter()
        .find_map(|marker| line.split_once(marker))?;
    let word = rest.split_whitespace().next()?;
    let id = word.trim_matches(|edge: char| !edge.is_ascii_alphanumeric());
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::queue_id;

    #[test]
    fn a_queue_id_is_found_where_servers_put_it() {
        assert_eq!(queue_id("2.0.0 Ok: queued as 4F3C21"), Some("4F3C21"));
        assert_eq!(queue_id("Ok: queued as <4F3C21>."), Some("4F3C21"));
        assert_eq!(queue_id("OK id=1hX-0001ab-Cd"), Some("1hX-0001ab-Cd"));
        assert_eq!(queue_id("2.0.0 Ok"), None);
        assert_eq!(queue_id("queued as "), None);
    }
}
