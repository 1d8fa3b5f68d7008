//! Which server, from a URL or from its parts.

use crate::config::{EmailConfig, TlsMode};
use lettre::transport::smtp::authentication::Credentials;
use outbox_channel::BuildError;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use std::net::IpAddr;
use url::{Host, Url};

/// A server and how to sign in.
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: TlsMode,
    pub(crate) credentials: Option<Credentials>,
}

impl Endpoint {
    pub(crate) fn of(config: &EmailConfig) -> Result<Self, BuildError> {
        match (&config.url, &config.host) {
            (Some(url), None) => Self::from_url(config, url),
            (None, Some(host)) => Self::from_parts(config, host),
            (Some(_), Some(_)) => Err(conflict("host")),
            (None, None) => Err(BuildError::new(
                "url",
                "is missing: name the server by url, or by host",
            )),
        }
    }

    fn from_parts(config: &EmailConfig, host: &str) -> Result<Self, BuildError> {
        let tls = config.tls.unwrap_or(TlsMode::StartTls);
        let credentials = match (&config.user, &config.pass) {
            (None, None) => None,
            (Some(user), Some(pass)) => {
                let secret = pass.expose_secret().to_owned();
                Some(Credentials::new(user.clone(), secret))
            }
            (Some(_), None) => return Err(BuildError::new("pass", "is missing beside user")),
            (None, Some(_)) => return Err(BuildError::new("user", "is missing beside pass")),
        };
        Ok(Self {
            host: host_name("host", host)?,
            port: config.port.unwrap_or(default_port(tls)),
            tls,
            credentials,
        })
    }

    fn from_url(config: &EmailConfig, url: &SecretString) -> Result<Self, BuildError> {
        let given = [
            ("port", config.port.is_some()),
            ("user", config.user.is_some()),
            ("pass", config.pass.is_some()),
        ];
        if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(conflict(key));
        }
        let url = Url::parse(url.expose_secret()).map_err(malformed_url)?;
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(malformed_url("it goes on behind the host"));
        }
        let tls = tls_mode(&url, config.tls)?;
        Ok(Self {
            host: host_name("url", url.host_str().unwrap_or_default())?,
            port: url.port().unwrap_or(default_port(tls)),
            tls,
            credentials: credentials(&url)?,
        })
    }
}

/// Scheme, query and the setting `tls` must not contradict each other.
fn tls_mode(url: &Url, setting: Option<TlsMode>) -> Result<TlsMode, BuildError> {
    let scheme = match url.scheme() {
        "smtp" => None,
        "smtps" => Some(TlsMode::Tls),
        _ => return Err(malformed_url("it must begin with smtp:// or smtps://")),
    };
    let mut query = None;
    for (key, value) in url.query_pairs() {
        query = match (&*key, &*value) {
            ("tls", "required" | "starttls") => Some(TlsMode::StartTls),
            ("tls", "tls") => Some(TlsMode::Tls),
            ("tls", "none") => Some(TlsMode::None),
            ("tls", _) => {
                return Err(malformed_url(
                    "its tls must be required, starttls, tls or none",
                ));
            }
            _ => return Err(malformed_url("its only parameter can be tls")),
        };
    }
    let mut asked = [scheme, query, setting].into_iter().flatten();
    let tls = asked.next().unwrap_or(TlsMode::StartTls);
    if asked.any(|other| other != tls) {
        let problem = "contradicts what the scheme or the tls parameter of url says";
        return Err(BuildError::new("tls", problem));
    }
    Ok(tls)
}

fn credentials(url: &Url) -> Result<Option<Credentials>, BuildError> {
    let decoded = |text| {
        let text = percent_decode_str(text).decode_utf8();
        text.map_err(|_| malformed_url("its user or password is not UTF-8"))
    };
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        (user, Some(pass)) if !user.is_empty() => Ok(Some(Credentials::new(
            decoded(user)?.into_owned(),
            decoded(pass)?.into_owned(),
        ))),
        _ => Err(malformed_url("user and password go together")),
    }
}

fn host_name(setting: &str, host: &str) -> Result<String, BuildError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    match Host::parse(host) {
        Ok(Host::Domain(domain)) => Ok(domain),
        Ok(Host::Ipv4(address)) => Ok(address.to_string()),
        Ok(Host::Ipv6(address)) => Ok(address.to_string()),
        Err(_) => Err(BuildError::new(
            setting,
            "has no valid host name or IP address",
        )),
    }
}

/// As registered for submission
/// ([RFC 6409](https://www.rfc-editor.org/rfc/rfc6409#section-3.1),
/// [RFC 8314](https://www.rfc-editor.org/rfc/rfc8314#section-7.3)); plain text is for a relay
/// close by.
fn default_port(tls: TlsMode) -> u16 {
    match tls {
        TlsMode::StartTls => 587,
        TlsMode::Tls => 465,
        TlsMode::None => 25,
    }
}

fn conflict(key: &str) -> BuildError {
    BuildError::new(key, "cannot stand beside url, which says it all")
}

/// Does not repeat the URL: it may hold a password.
fn malformed_url(problem: impl std::fmt::Display) -> BuildError {
    let message = format!(
        "is not usable: {problem}; it looks like smtp://user:pass@host:587, \
         with / @ : # ? in user and password percent-encoded"
    );
    BuildError::new("url", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Endpoint, BuildError> {
        let config = EmailConfig {
            url: Some(text.into()),
            ..EmailConfig::default()
        };
        Endpoint::of(&config)
    }

    #[test]
    fn a_url_says_it_all() {
        let endpoint = of("smtp://ada:p%40ss%2F@mail.example.org:2525").unwrap();
        assert_eq!(endpoint.host, "mail.example.org");
        assert_eq!(endpoint.port, 2525);
        let expected = Credentials::new("ada".to_owned(), "p@ss/".to_owned());
        assert_eq!(endpoint.credentials, Some(expected));
        assert_eq!(of("smtp://[::1]").unwrap().host, "::1");
        assert_eq!(of("smtp://mail/").unwrap().credentials, None);
    }

    #[test]
    fn plain_text_only_when_asked_for() {
        let modes = [
            ("smtp://mail", TlsMode::StartTls, 587),
            ("smtp://mail?tls=required", TlsMode::StartTls, 587),
            ("smtps://mail", TlsMode::Tls, 465),
            ("smtp://mail?tls=tls", TlsMode::Tls, 465),
            ("smtp://mail?tls=none", TlsMode::None, 25),
        ];
        for (url, tls, port) in modes {
            let endpoint = of(url).unwrap();
            assert_eq!((endpoint.tls, endpoint.port), (tls, port), "{url}");
        }
    }

    #[test]
    fn an_unusable_url_is_refused_without_being_repeated() {
        let urls = [
            "",
            "mail.example.org",
            "http://ada:sesame@mail",
            "smtp://",
            "smtp://ada:ses/ame@mail",
            "smtp://ada:1#sesame@mail",
            "smtp://ada@mail",
            "smtp://:sesame@mail",
            "smtp://ada:sesame@mail?tls=opportunistic",
            "smtp://ada:sesame@mail?verify=no",
            "smtp://ada:sesame@ma il",
            "smtps://mail?tls=none",
        ];
        for url in urls {
            let Err(error) = of(url) else {
                panic!("{url} was taken");
            };
            assert!(["url", "tls"].contains(&error.setting()), "{url}: {error}");
            assert!(!error.to_string().contains("ame@"), "{url}: {error}");
            assert!(!error.to_string().contains("sesame"), "{url}: {error}");
        }
    }

    #[test]
    fn what_contradicts_is_refused_by_its_key() {
        let base = EmailConfig {
            url: Some("smtps://mail".into()),
            ..EmailConfig::default()
        };
        let key = |change: fn(&mut EmailConfig)| {
            let mut config = base.clone();
            change(&mut config);
            let error = Endpoint::of(&config)
                .err()
                .map(|error| error.setting().to_owned());
            error.unwrap_or_default()
        };
        assert_eq!(key(|config| config.host = Some("mail".to_owned())), "host");
        assert_eq!(key(|config| config.port = Some(25)), "port");
        assert_eq!(key(|config| config.user = Some("ada".to_owned())), "user");
        assert_eq!(key(|config| config.pass = Some("x".into())), "pass");
        assert_eq!(key(|config| config.tls = Some(TlsMode::None)), "tls");
        assert_eq!(key(|config| config.url = None), "url");
        assert_eq!(key(|config| config.tls = Some(TlsMode::Tls)), "");
        let parts = |config: &mut EmailConfig| {
            config.url = None;
            config.host = Some("mail".to_owned());
        };
        let mut half = base.clone();
        parts(&mut half);
        half.user = Some("ada".to_owned());
        assert_eq!(Endpoint::of(&half).err().unwrap().setting(), "pass");
    }
}
