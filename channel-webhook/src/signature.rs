//! Signatures by the rules of Standard Webhooks.

use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine as _};
use outbox_channel::BuildError;
use ring::hmac::{self, HMAC_SHA256};
use ring::signature::Ed25519KeyPair;

/// Signs with every configured key, so that receivers can change from one to the next.
///
/// Neither kind of key shows itself in `Debug`.
#[derive(Debug)]
pub(crate) struct Signer(Vec<Key>);

#[derive(Debug)]
enum Key {
    /// `whsec_`, shared with the receiver.
    Shared(hmac::Key),
    /// `whsk_`, of which the receiver has the public half.
    Private(Ed25519KeyPair),
}

impl Signer {
    /// From secrets as written, each with the setting it stands in.
    pub(crate) fn new<'a>(
        secrets: impl Iterator<Item = (&'static str, &'a str)>,
    ) -> Result<Self, BuildError> {
        let key =
            |(setting, text)| Key::read(text).map_err(|reason| BuildError::new(setting, reason));
        secrets.map(key).collect::<Result<_, _>>().map(Self)
    }

    /// The `webhook-signature` header; `None` without any key.
    pub(crate) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let mut content = format!("{id}.{timestamp}.").into_bytes();
        content.extend_from_slice(body);
        let signatures: Vec<_> = self.0.iter().map(|key| key.sign(&content)).collect();
        Some(signatures.join(" "))
    }
}

impl Key {
    /// The reason never repeats the text.
    fn read(text: &str) -> Result<Self, &'static str> {
        if let Some(text) = text.strip_prefix("whsec_") {
            let secret = decode(text)?;
            if secret.is_empty() {
                return Err("holds no bytes: generate one of 24 to 64 random bytes");
            }
            return Ok(Self::Shared(hmac::Key::new(HMAC_SHA256, &secret)));
        }
        let Some(text) = text.strip_prefix("whsk_") else {
            return Err("must begin with whsec_ (a shared secret) or whsk_ (a private key)");
        };
        let key = decode(text)?;
        let pair = match key.split_at_checked(32) {
            Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
            Some((seed, public)) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
            None => return Err("an ed25519 private key has 32 bytes, or 64 with the public one"),
        };
        pair.map(Self::Private)
            .map_err(|_| "the two halves of the ed25519 key do not belong together")
    }

    fn sign(&self, content: &[u8]) -> String {
        match self {
            Self::Shared(key) => format!("v1,{}", STANDARD.encode(hmac::sign(key, content))),
            Self::Private(pair) => format!("v1a,{}", STANDARD.encode(pair.sign(content))),
        }
    }
}

fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&ALPHABET, CONFIG);
    engine
        .decode(text)
        .map_err(|_| "is not base64 after its prefix")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn signer(secrets: &[&str]) -> Result<Signer, BuildError> {
        Signer::new(secrets.iter().map(|secret| ("secret", *secret)))
    }

    #[test]
    fn it_signs_as_the_reference_does() {
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let id = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
        let signature = signer(&[SECRET]).unwrap().sign(id, 1_649_367_553, body);
        let expected = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
        assert_eq!(signature.as_deref(), Some(expected));
    }

    #[test]
    fn padding_may_be_left_out() {
        assert!(signer(&["whsec_QUFB", "whsec_QUE", "whsec_QUE="]).is_ok());
    }

    #[test]
    fn malformed_secrets_are_told_without_them() {
        let short = format!("whsk_{}", STANDARD.encode([7; 31]));
        let strangers = format!("whsk_{}", STANDARD.encode([7; 64]));
        for secret in [
            "topS3cret",
            "whsec_",
            "whsec_top S3cret",
            &short,
            &strangers,
            "",
        ] {
            let error = signer(&[secret]).unwrap_err();
            assert_eq!(error.setting(), "secret");
            assert!(!error.to_string().contains("S3cret"), "{error}");
        }
    }

    #[test]
    fn no_key_is_shown() {
        let private = format!("whsk_{}", STANDARD.encode([7; 32]));
        let shown = format!("{:?}", signer(&[SECRET, &private]).unwrap());
        assert!(
            !shown.contains("C2FV") && !shown.contains("7, 7"),
            "{shown}"
        );
    }
}
