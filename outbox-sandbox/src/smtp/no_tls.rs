//! Stands in for `tls.rs` in a build without the feature `smtp-tls`: there is no such value.

use super::wire::Stream;
use std::io;

pub(super) enum Tls {}

impl Tls {
    pub(super) async fn accept(&self, _: Stream) -> io::Result<Stream> {
        match *self {}
    }
}
