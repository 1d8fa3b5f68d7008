//! Twilio's signature (<https://www.twilio.com/docs/usage/security#validating-requests>).

use crate::form::Form;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channel_http::reqwest::Url;
use ring::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};
use secrecy::{ExposeSecret, SecretString};

/// Knows whether a form that came to one URL was signed with the account's token.
///
/// Shows no token in `Debug`.
#[derive(Debug)]
pub(crate) struct Signature {
    key: hmac::Key,
    /// The URL without a port, and with one.
    signed: [String; 2],
}

impl Signature {
    /// `url` as it is given to Twilio.
    ///
    /// The reason never repeats the URL: it may hold a password.
    pub(crate) fn new(url: &str, token: &SecretString) -> Result<Self, &'static str> {
        const REASON: &str = "must be the public http:// or https:// URL of /hooks/twilio/NAME";
        let parsed = Url::parse(url).map_err(|_| REASON)?;
        // Twilio signs the text as it stands, so nothing in it may be left to interpretation.
        let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic());
        if !matches!(parsed.scheme(), "http" | "https") || !is_plain {
            return Err(REASON);
        }
        let token = token.expose_secret().as_bytes();
        Ok(Self {
            key: hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, token),
            signed: without_and_with_port(url).ok_or(REASON)?,
        })
    }

    /// Whether `given`, the value of `X-Twilio-Signature`, is the signature of that form.
    pub(crate) fn fits(&self, form: &Form, given: &str) -> bool {
        let Ok(given) = STANDARD.decode(given) else {
            return false;
        };
        let fields: String = form
            .fields()
            .flat_map(|(name, value)| [name, value])
            .collect();
        // Both, and each in constant time.
        let [without_port, with_port] = self.signed.each_ref().map(|url| {
            let signed = format!("{url}{fields}");
            hmac::verify(&self.key, signed.as_bytes(), &given).is_ok()
        });
        without_port | with_port
    }
}

/// What Twilio may have signed: whether the port counts depends on the product and the scheme,
/// so that Twilio's own libraries try both. Fragments are settings for Twilio's client and part
/// of no request (<https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides>).
fn without_and_with_port(url: &str) -> Option<[String; 2]> {
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (host, port) = match authority.rsplit_once(':') {
        // Behind the last colon may also be a password, or half of an address.
        Some((host, port)) if !port.contains(['@', ']']) => (host, port),
        _ => (authority, ""),
    };
    let port = match port {
        "" if scheme.eq_ignore_ascii_case("https") => "443",
        "" => "80",
        port => port,
    };
    Some([
        format!("{scheme}://{host}{rest}"),
        format!("{scheme}://{host}:{port}{rest}"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A form of the examples in the tests of Twilio's own libraries.
    const CALL: &str = "Digits=1234&To=%2B18005551212&From=%2B14158675309&Caller=%2B14158675309\
                        &CallSid=CA1234567890ABCDE";
    const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";

    fn fits(url: &str, form: &str, given: &str) -> bool {
        let signature = Signature::new(url, &"12345".into()).unwrap();
        signature.fits(&Form::read(form.as_bytes()).unwrap(), given)
    }

    #[test]
    fn twilios_own_examples_fit() {
        let http = URL.replace("https", "http");
        let on_port = |url: &str, port: &str| url.replace(".com", &format!(".com:{port}"));
        let with_password = URL.replace("//", "//user:pass@");
        for (url, given) in [
            (URL.to_owned(), "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
            (on_port(URL, "1234"), "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
            (on_port(URL, "1234"), "CYn1h0gLBdNxDGkKJg6hYohgeD8="),
            (on_port(&http, "1234"), "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),
            (URL.to_owned(), "kvajT1Ptam85bY51eRf/AJRuM3w="),
            (http, "0ZXoZLH/DfblKGATFgpif+LLRf4="),
            (with_password.clone(), "CukzLTc1tT5dXEDIHm/tKBanW10="),
            (with_password, "ZQFR1PTIZXF2MXB8ZnKCvnnA+rI="),
            (URL.replace("//", "//user@"), "2YRLlVAflCqxaNicjMpJcSTgzSs="),
            (URL.replace("myc", "MyC"), "g9IN/x4Cft2g517EjYvEvM/W7LU="),
            (format!("{URL}#rc=3&rp=all"), "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ] {
            assert!(fits(&url, CALL, given), "{url}");
        }
        let repeated = "Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234";
        assert!(fits(URL, repeated, "IK+Dwps556ElfBT0I3Rgjkr1wJU="));
    }

    #[test]
    fn what_differs_in_anything_does_not_fit() {
        let given = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";
        assert!(!fits(&URL.replace('1', "2"), CALL, given), "the URL");
        assert!(!fits(URL, &CALL.replace("1234", "1235"), given), "a value");
        assert!(
            !fits(URL, &format!("{CALL}&Too=much"), given),
            "a field more"
        );
        let other = Signature::new(URL, &"12346".into()).unwrap();
        assert!(
            !other.fits(&Form::read(CALL.as_bytes()).unwrap(), given),
            "the token"
        );
        for given in [
            "",
            "=",
            "RSOYDt4T1cUTdK1PDd93/VVr8B8",
            "UlNPWUR0NFQ=",
            "é",
            &given[4..],
        ] {
            assert!(!fits(URL, CALL, given), "{given}");
        }
    }

    #[test]
    fn ports_are_told_from_passwords_and_addresses() {
        for (url, without, with) in [
            ("https://h", "https://h", "https://h:443"),
            ("HTTP://h?a:1", "HTTP://h?a:1", "HTTP://h:80?a:1"),
            ("http://h:81/a", "http://h/a", "http://h:81/a"),
            ("http://u:p@h/a", "http://u:p@h/a", "http://u:p@h:80/a"),
            ("http://[::1]/a", "http://[::1]/a", "http://[::1]:80/a"),
            (
                "http://u:p@[::1]:8/",
                "http://u:p@[::1]/",
                "http://u:p@[::1]:8/",
            ),
        ] {
            let expected = [without.to_owned(), with.to_owned()];
            assert_eq!(without_and_with_port(url), Some(expected), "{url}");
        }
    }

    #[test]
    fn what_twilio_cannot_call_is_refused_without_being_shown() {
        for url in [
            "",
            "example.org/hooks",
            "ftp://h/p4ss",
            "https://",
            "https://h/\np4ss",
            "https://é/",
        ] {
            let reason = Signature::new(url, &"t".into()).unwrap_err();
            assert!(!reason.contains("p4ss"), "{url:?}: {reason}");
        }
    }
}
