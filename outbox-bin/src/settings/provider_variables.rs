//! The variables under which hosting platforms hand out provider credentials.
//!
//! They lie beneath the settings file: they fill what `[channels.email]`, `[channels.sms]`
//! and `[channels.webhook]` leave out, and with enough of them the channel exists without a
//! file.

use super::error::{Origin, Problem};
use super::tree::{Tree, nested};
use super::variables::Variables;

/// A key that a variable fills, except when one of `unless` is there: they say the same in
/// another way.
struct Fill {
    variable: &'static str,
    key: &'static str,
    unless: &'static [&'static str],
}

const fn fill(variable: &'static str, key: &'static str, unless: &'static [&'static str]) -> Fill {
    Fill {
        variable,
        key,
        unless,
    }
}

/// The channel's name is its kind.
struct Provider {
    kind: &'static str,
    /// Any of these is enough for the channel to exist.
    enough: &'static [&'static str],
    /// Settled over all sources before the rest: which of two ways is taken.
    ways: &'static [Fill],
    rest: &'static [Fill],
}

const PROVIDERS: &[Provider] = &[
    Provider {
        kind: "email",
        enough: &["SMTP_URL", "SMTP_HOST"],
        ways: &[
            fill("SMTP_URL", "url", &["host"]),
            fill("SMTP_HOST", "host", &["url"]),
        ],
        rest: &[
            fill("SMTP_PORT", "port", &["url"]),
            fill("SMTP_USER", "user", &["url"]),
            fill("SMTP_PASS", "pass", &["url"]),
            fill("SMTP_FROM", "from", &[]),
        ],
    },
    Provider {
        kind: "sms",
        enough: &["TWILIO_ACCOUNT_SID"],
        ways: &[
            fill("TWILIO_FROM", "from", &["messaging_service_sid"]),
            fill(
                "TWILIO_MESSAGING_SERVICE_SID",
                "messaging_service_sid",
                &["from"],
            ),
        ],
        rest: &[
            fill("TWILIO_ACCOUNT_SID", "account_sid", &[]),
            fill("TWILIO_AUTH_TOKEN", "auth_token", &[]),
        ],
    },
    Provider {
        kind: "webhook",
        enough: &["WEBHOOK_URL"],
        ways: &[],
        rest: &[
            fill("WEBHOOK_URL", "url", &[]),
            fill("WEBHOOK_SECRET", "secret", &["secrets"]),
        ],
    },
];

/// Fills what the tree leaves out; `sources` from the strongest to the weakest.
pub(super) fn lay_under(tree: &mut Tree, sources: &[Variables<'_>], warnings: &mut Vec<Problem>) {
    for provider in PROVIDERS {
        if provider.applies(tree, sources) {
            for fills in [provider.ways, provider.rest] {
                for source in sources {
                    provider.fill(fills, source, tree, warnings);
                }
            }
        }
    }
}

/// Whether this is one of those variables.
pub(super) fn knows(name: &str) -> bool {
    let all = |provider: &'static Provider| provider.ways.iter().chain(provider.rest);
    let mut fills = PROVIDERS.iter().flat_map(all);
    fills.any(|fill| fill.variable == name)
}

impl Provider {
    /// Whether there is a channel to fill; makes it when the variables are enough.
    fn applies(&self, tree: &mut Tree, sources: &[Variables<'_>]) -> bool {
        let path = ["channels", self.kind, "kind"];
        if let Some(kind) = tree.get(&path) {
            return kind.as_str() == Some(self.kind);
        }
        let mut found = sources.iter().flat_map(|source| {
            let names = self.enough.iter().filter(|name| source.get(name).is_some());
            names.map(|name| source.origin(name))
        });
        let Some(origin) = found.next() else {
            return false;
        };
        tree.lay_under(&origin, nested(&path, self.kind.into()));
        true
    }

    fn fill(
        &self,
        fills: &[Fill],
        source: &Variables<'_>,
        tree: &mut Tree,
        warnings: &mut Vec<Problem>,
    ) {
        for fill in fills {
            let (variable, key) = (fill.variable, fill.key);
            let Some(text) = source.get(variable) else {
                continue;
            };
            let origin = source.origin(variable);
            let path = |key| ["channels", self.kind, "settings", key];
            match fill
                .unless
                .iter()
                .find(|other| tree.get(&path(other)).is_some())
            {
                Some(other) => warnings.push(self.ignored(tree, &origin, key, other)),
                None => tree.lay_under(&origin, nested(&path(key), text.into())),
            }
        }
    }

    fn ignored(&self, tree: &Tree, origin: &Origin, key: &str, other: &str) -> Problem {
        let place = format!("channels.{}.settings", self.kind);
        let set_by = tree.origin(&["channels", self.kind, "settings", other]);
        let message = format!("is ignored: `{place}.{other}` is set ({set_by})");
        Problem::new(origin.clone(), format!("{place}.{key}"), message)
    }
}
