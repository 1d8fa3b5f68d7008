//! Lines in, replies out; nothing that a client sends is held without a bound.

use super::tls::Tls;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;

/// A plain or an encrypted connection.
pub(super) type Stream = Box<dyn Duplex>;

pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// More than any command line, `AUTH` with a long answer included
/// ([RFC 4954, section 4](https://www.rfc-editor.org/rfc/rfc4954#section-4)).
const MAX_LINE: u64 = 12_288;

/// A client that says nothing for so long is gone.
const IDLE: Duration = Duration::from_secs(300);

/// One client's connection.
pub(super) struct Wire(BufReader<Stream>);

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self(BufReader::new(stream))
    }

    /// The next command without its line end; `None` when the client is gone.
    pub(super) async fn command(&mut self) -> io::Result<Option<String>> {
        let line = self.line(MAX_LINE).await?;
        if !line.ends_with(b"\n") {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&line);
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Sends one reply, several lines where `text` has them.
    pub(super) async fn reply(&mut self, code: u16, text: &str) -> io::Result<()> {
        let mut lines = text.lines().peekable();
        let mut reply = String::new();
        while let Some(line) = lines.next() {
            let separator = if lines.peek().is_some() { '-' } else { ' ' };
            reply.push_str(&format!("{code}{separator}{line}\r\n"));
        }
        self.write(reply.as_bytes()).await
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// Reads a message up to the line with a dot alone, and takes the dot-stuffing away
    /// ([RFC 5321, section 4.5.2](https://www.rfc-editor.org/rfc/rfc5321#section-4.5.2)).
    /// Only CRLF ends a line here, so that a bare line feed smuggles nothing in. `None` when
    /// it was longer than `limit` bytes.
    pub(super) async fn message(&mut self, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let mut message = Vec::new();
        let mut too_long = false;
        let mut at_line_start = true;
        loop {
            let line = self.line(limit).await?;
            if line.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if at_line_start && line == b".\r\n" {
                return Ok((!too_long).then_some(message));
            }
            let stuffed = at_line_start && line.starts_with(b".");
            at_line_start = line.ends_with(b"\r\n");
            too_long |= (message.len() + line.len()) as u64 > limit;
            if too_long {
                message = Vec::new();
            } else {
                message.extend_from_slice(&line[usize::from(stuffed)..]);
            }
        }
    }

    /// Reads and forgets until the client leaves.
    pub(super) async fn stall(&mut self) -> io::Result<()> {
        tokio::io::copy_buf(&mut self.0, &mut tokio::io::sink()).await?;
        Ok(())
    }

    /// Goes on encrypted. What the client has sent too early is dropped, so that nothing said
    /// in the clear counts afterwards.
    pub(super) async fn encrypt(&mut self, tls: &Tls) -> io::Result<()> {
        let nothing: Stream = Box::new(tokio::io::empty());
        let plain = std::mem::replace(&mut self.0, BufReader::new(nothing));
        self.0 = BufReader::new(tls.accept(plain.into_inner()).await?);
        Ok(())
    }

    async fn line(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.0).take(limit);
        timeout(IDLE, bounded.read_until(b'\n', &mut line)).await??;
        Ok(line)
    }
}

/// Takes `FROM:<address> PARAMETERS` apart.
pub(super) fn path<'a>(argument: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (start, rest) = argument.split_at_checked(keyword.len())?;
    let rest = rest.trim_start().strip_prefix('<')?;
    start.eq_ignore_ascii_case(keyword).then_some(())?;
    rest.split_once('>')
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn a_path_is_taken_apart() {
        assert_eq!(path("from:<a@b> SIZE=1", "FROM:"), Some(("a@b", " SIZE=1")));
        assert_eq!(path("FROM: <>", "FROM:"), Some(("", "")));
        assert_eq!(path("TO:<a@b>", "FROM:"), None);
        assert_eq!(path("FROM:a@b", "FROM:"), None);
        assert_eq!(path("é", "TO:"), None);
    }
}
