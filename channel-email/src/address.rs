//! One address, as a person writes it.

use lettre::Address;
use lettre::message::{Mailbox, Mailboxes};
use std::fmt;
use url::Host;

/// Why a text is not taken for an address. Does not repeat it: it is personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    Control,
    Syntax,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "holds a line break or another control character",
            Self::Syntax => "is not one e-mail address",
        })
    }
}

/// More than any real address with its name.
const MAX_LENGTH: usize = 1_000;

/// Reads `ada@example.org` or `Ada <ada@example.org>`. The domain comes out in its ASCII form,
/// which every server understands ([RFC 5891](https://www.rfc-editor.org/rfc/rfc5891)).
pub(crate) fn mailbox(text: &str) -> Result<Mailbox, Malformed> {
    if text.chars().any(char::is_control) {
        return Err(Malformed::Control);
    }
    if text.len() > MAX_LENGTH {
        return Err(Malformed::Syntax);
    }
    // Read as a list: the parser for one address ignores whatever comes after it.
    let mailboxes: Mailboxes = text.trim().parse().map_err(|_| Malformed::Syntax)?;
    let mut mailboxes = mailboxes.into_iter();
    match (mailboxes.next(), mailboxes.next()) {
        (Some(mailbox), None) => with_ascii_domain(mailbox),
        _ => Err(Malformed::Syntax),
    }
}

fn with_ascii_domain(mut mailbox: Mailbox) -> Result<Mailbox, Malformed> {
    if !mailbox.email.domain().is_ascii() {
        let domain = Host::parse(mailbox.email.domain()).map_err(|_| Malformed::Syntax)?;
        let address = Address::new(mailbox.email.user(), domain.to_string());
        mailbox.email = address.map_err(|_| Malformed::Syntax)?;
    }
    Ok(mailbox)
}

#[cfg(test)]
mod tests {
    use super::{Malformed, mailbox};

    #[test]
    fn an_address_may_have_a_name_and_an_international_domain() {
        let plain = mailbox("ada@example.org").unwrap();
        assert_eq!(
            (plain.name, &*plain.email.to_string()),
            (None, "ada@example.org")
        );
        let named = mailbox(r#""Lovelace, Ada" <ada@example.org>"#).unwrap();
        assert_eq!(named.name.as_deref(), Some("Lovelace, Ada"));
        let idn = mailbox("ada@bücher.example").unwrap();
        assert_eq!(idn.email.to_string(), "ada@xn--bcher-kva.example");
    }

    #[test]
    fn anything_but_one_address_is_refused() {
        let texts = [
            "",
            "ada",
            "ada@",
            "@example.org",
            "a@example.org, b@example.org",
            "a@example.org b@example.org",
            "Ada <ada@example.org> and more",
            "<<ada@example.org>>",
        ];
        for text in texts {
            assert_eq!(mailbox(text), Err(Malformed::Syntax), "{text}");
        }
        let long = format!("{}@example.org", "a".repeat(2_000));
        assert_eq!(mailbox(&long), Err(Malformed::Syntax));
    }

    #[test]
    fn control_characters_are_refused() {
        for text in [
            "a@example.org\r\nBcc: b@example.org",
            "A\0 <a@example.org>",
            "\ta@b.org",
        ] {
            assert_eq!(mailbox(text), Err(Malformed::Control), "{text:?}");
        }
    }
}
