//! The body of a mail: texts, and what is attached to them
//! ([RFC 2046, section 5.1](https://www.rfc-editor.org/rfc/rfc2046#section-5.1)).

use crate::compose::{header_text, refused};
use crate::payload::{Attachment, Payload};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lettre::message::header::{
    ContentDisposition, ContentId, ContentTransferEncoding, ContentType,
};
use lettre::message::{MultiPart, MultiPartBuilder, SinglePart};
use outbox_channel::SendError;

/// What separates the parts. Fixed, so that every attempt sends the same bytes: no part can
/// hold it, since `=` never stands before `_` in base64 or quoted-printable, and a text that
/// has it as it stands is encoded.
const BOUNDARY: &str = "=_outbox_";

/// A message's whole body, or a piece of it.
pub(crate) enum Part {
    Single(SinglePart),
    Multi(MultiPart),
}

impl Part {
    /// Puts `others` behind this part; alone it stays as it is.
    fn with(self, kind: MultiPartBuilder, others: Vec<SinglePart>) -> Self {
        if others.is_empty() {
            return self;
        }
        let whole = match self {
            Self::Single(part) => kind.singlepart(part),
            Self::Multi(part) => kind.multipart(part),
        };
        Self::Multi(others.into_iter().fold(whole, MultiPart::singlepart))
    }
}

/// Takes the contents out of `payload`: text and HTML as alternatives, inline parts with the
/// text that refers to them, attachments last.
pub(crate) fn body(payload: &mut Payload) -> Result<Part, SendError> {
    let plain = payload.text.take();
    let html = payload.html.take();
    let plain = plain.map(|text| text_part(ContentType::TEXT_PLAIN, &text));
    let html = html.map(|text| text_part(ContentType::TEXT_HTML, &text));
    let texts = match (plain, html) {
        (Some(plain), html) => {
            let kind = MultiPart::alternative().boundary(format!("{BOUNDARY}alternative"));
            Part::Single(plain).with(kind, html.into_iter().collect())
        }
        (None, Some(html)) => Part::Single(html),
        (None, None) => {
            return Err(refused("content", "the mail needs `text` or `html`"));
        }
    };
    let (mut inline, mut attached) = (Vec::new(), Vec::new());
    let attachments = payload.attachments.take().unwrap_or_default();
    for (index, attachment) in attachments.into_iter().enumerate() {
        let is_inline = attachment.inline.unwrap_or(attachment.content_id.is_some());
        let part = attachment_part(index, attachment, is_inline)?;
        if is_inline {
            &mut inline
        } else {
            &mut attached
        }
        .push(part);
    }
    let related = MultiPart::related().boundary(format!("{BOUNDARY}related"));
    let mixed = MultiPart::mixed().boundary(format!("{BOUNDARY}mixed"));
    Ok(texts.with(related, inline).with(mixed, attached))
}

fn text_part(kind: ContentType, text: &str) -> SinglePart {
    let part = SinglePart::builder().content_type(kind);
    let text = with_crlf(text);
    if text.contains(BOUNDARY) {
        part.header(ContentTransferEncoding::QuotedPrintable)
            .body(text)
    } else {
        part.body(text)
    }
}

/// Ends every line with CRLF. lettre would too, but its way takes quadratic time, and leaves
/// a carriage return alone.
fn with_crlf(text: &str) -> String {
    let unified = text.replace("\r\n", "\n").replace('\r', "\n");
    unified.replace('\n', "\r\n")
}

fn attachment_part(
    index: usize,
    attachment: Attachment,
    inline: bool,
) -> Result<SinglePart, SendError> {
    let field = |name| format!("attachments[{index}].{name}");
    let malformed = |name, problem| refused("attachment", format!("`{}` {problem}", field(name)));
    let content = BASE64_STANDARD
        .decode(attachment.content)
        .map_err(|_| malformed("content", "is not base64"))?;
    let kind = match &attachment.content_type {
        None => "application/octet-stream",
        Some(kind) => header_text(&field("content_type"), kind)?,
    };
    let kind = ContentType::parse(kind)
        .map_err(|_| malformed("content_type", "is not a media type such as text/csv"))?;
    let disposition = match &attachment.filename {
        None if inline => ContentDisposition::inline(),
        None => return Err(malformed("filename", "is missing")),
        Some(name) => {
            let name = header_text(&field("filename"), name)?;
            if inline {
                ContentDisposition::inline_with_name(name)
            } else {
                ContentDisposition::attachment(name)
            }
        }
    };
    let mut part = SinglePart::builder().header(kind).header(disposition);
    if let Some(id) = &attachment.content_id {
        if id.is_empty() || !id.bytes().all(is_id_byte) {
            return Err(malformed(
                "content_id",
                "must be of letters, digits and .-_@",
            ));
        }
        part = part.header(ContentId::from(format!("<{id}>")));
    }
    Ok(part.header(ContentTransferEncoding::Base64).body(content))
}

fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::with_crlf;

    #[test]
    fn every_line_end_becomes_crlf() {
        assert_eq!(with_crlf("a\nb\r\nc\rd\n\r"), "a\r\nb\r\nc\r\nd\r\n\r\n");
    }
}
