//! Who may do what.

use crate::admin::Admin;
use crate::problem::Problem;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::{Choice, ConstantTimeEq};

/// Where a client puts its key.
const HEADER: &str = "x-api-key";

/// The keys' digests: of equal length, so that comparing tells nothing about a key's length, and
/// no key is kept in memory.
pub(crate) struct Keys {
    full: Option<KeyDigest>,
    read_only: Option<KeyDigest>,
}

impl Keys {
    pub(crate) fn new(full: Option<&SecretString>, read_only: Option<&SecretString>) -> Self {
        Self {
            full: full.and_then(KeyDigest::of_secret),
            read_only: read_only.and_then(KeyDigest::of_secret),
        }
    }

    /// Whether a request with these headers may do `method`.
    fn allow(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(full) = &self.full else {
            return Err(Problem::forbidden(
                "the admin API is closed because no key is configured: set ADMIN_API_KEY, or \
                 api_key under [admin] in the settings file, and start the process again",
            ));
        };
        let Some(given) = headers.get(HEADER) else {
            return Err(Problem::unauthorized(
                "send the key in the header x-api-key",
            ));
        };
        let given = KeyDigest::of(given.as_bytes());
        let is_read_only = self
            .read_only
            .as_ref()
            .map_or(Choice::from(0), |key| key.equals(&given));
        match (bool::from(full.equals(&given)), bool::from(is_read_only)) {
            (true, _) => Ok(()),
            (false, true) if method.is_safe() => Ok(()),
            (false, true) => Err(Problem::forbidden(
                "this key may only read: use the full api_key",
            )),
            (false, false) => Err(Problem::unauthorized(
                "the key in the header x-api-key is not one of this process",
            )),
        }
    }
}

struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// None for a key that no client could send: an empty one must open nothing. Clients cannot
    /// send white space around a header's value, and files of secrets often end in a newline.
    fn of_secret(key: &SecretString) -> Option<Self> {
        let key = key.expose_secret().trim();
        (!key.is_empty()).then(|| Self::of(key.as_bytes()))
    }

    fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    fn equals(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// Middleware: lets through only requests with a key that suffices.
pub(crate) async fn require(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    admin.keys.allow(request.method(), request.headers())?;
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    fn status(keys: &Keys, method: &Method, key: Option<&str>) -> StatusCode {
        let headers = key.map(|key| (HEADER.parse().unwrap(), key.parse().unwrap()));
        keys.allow(method, &headers.into_iter().collect())
            .map_or_else(|problem| problem.status(), |()| StatusCode::OK)
    }

    fn keys(full: &str, read_only: &str) -> Keys {
        Keys::new(Some(&full.into()), Some(&read_only.into()))
    }

    #[test]
    fn each_key_opens_what_it_should() {
        let keys = keys("full", "read");
        let cases = [
            (Method::GET, None, 401),
            (Method::GET, Some("wrong"), 401),
            (Method::GET, Some(""), 401),
            (Method::GET, Some("ful"), 401),
            (Method::GET, Some("full1"), 401),
            (Method::GET, Some("read"), 200),
            (Method::HEAD, Some("read"), 200),
            (Method::POST, Some("read"), 403),
            (Method::DELETE, Some("read"), 403),
            (Method::GET, Some("full"), 200),
            (Method::POST, Some("full"), 200),
        ];
        for (method, key, expected) in cases {
            assert_eq!(status(&keys, &method, key), expected, "{method} {key:?}");
        }
    }

    #[test]
    fn without_a_full_key_nothing_is_open() {
        let closed = [
            Keys::new(None, None),
            Keys::new(None, Some(&"read".into())),
            keys("", "read"),
            keys(" \n", "read"),
        ];
        for keys in closed {
            for key in [None, Some(""), Some("read")] {
                assert_eq!(status(&keys, &Method::GET, key), StatusCode::FORBIDDEN);
            }
        }
    }

    #[test]
    fn an_empty_read_only_key_opens_nothing() {
        let keys = keys("full", "");
        assert_eq!(
            status(&keys, &Method::GET, Some("")),
            StatusCode::UNAUTHORIZED
        );
    }

    #[test]
    fn a_newline_from_a_file_of_secrets_does_no_harm() {
        assert_eq!(
            status(&keys("full\n", "read"), &Method::POST, Some("full")),
            StatusCode::OK
        );
    }

    #[test]
    fn the_same_text_as_both_keys_is_the_full_key() {
        assert_eq!(
            status(&keys("same", "same"), &Method::POST, Some("same")),
            StatusCode::OK
        );
    }
}
