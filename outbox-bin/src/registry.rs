//! The kinds of channels in this build, and how each is made from its settings.

use crate::settings::{Origin, Problem, Settings, SettingsError, nearest, quoted};
use outbox_channel::{Channel, ChannelFactory, ChannelName};
use std::collections::BTreeMap;
use std::fmt;

/// Makes one channel of a kind.
type Make = fn(&ChannelName, &Settings) -> Result<Box<dyn Channel>, SettingsError>;

/// The channels of an installation, by name.
pub type Channels = BTreeMap<ChannelName, Box<dyn Channel>>;

/// Kinds that this project has, with the cargo feature that brings each.
const OURS: &[(&str, &str)] = &[("email", "email"), ("sms", "sms"), ("webhook", "webhook")];

/// The kinds of channels that a binary has.
///
/// ```
/// use outbox_bin::{Null, Registry, builtin_channels};
///
/// assert!(builtin_channels().kinds().any(|kind| kind == "null"));
/// // A binary with a channel of its own adds it: `.register::<Slack>()`.
/// let registry = Registry::new().register::<Null>();
/// assert_eq!(registry.kinds().collect::<Vec<_>>(), ["null"]);
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<&'static str, Make>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds.keys()).finish()
    }
}

impl Registry {
    /// No kinds at all; most binaries begin with
    /// [`builtin_channels`](crate::builtin_channels).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind. One that is there already under the same name is replaced, so that a
    /// binary can put its own in the place of a built-in one.
    #[must_use]
    pub fn register<F: ChannelFactory>(mut self) -> Self {
        self.kinds.insert(F::KIND, make::<F>);
        self
    }

    /// The names of the kinds, in alphabetical order.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.kinds.keys().copied()
    }

    /// Makes every configured channel. Call it inside a tokio runtime; it does not wait for
    /// the network.
    ///
    /// # Errors
    /// All channels that can't be made: of a kind that this build lacks, or with settings
    /// that don't fit, each with its source and key.
    pub fn build(&self, settings: &Settings) -> Result<Channels, SettingsError> {
        let mut channels = Channels::new();
        let mut problems = Vec::new();
        for (name, channel) in &settings.channels {
            let made = match self.kinds.get(channel.kind.as_str()) {
                Some(make) => make(name, settings),
                None => Err(self.lacks(name, &channel.kind, settings).into()),
            };
            match made {
                Ok(channel) => drop(channels.insert(name.clone(), channel)),
                Err(error) => problems.extend_from_slice(error.problems()),
            }
        }
        if problems.is_empty() {
            Ok(channels)
        } else {
            Err(problems.into())
        }
    }

    fn lacks(&self, name: &ChannelName, kind: &str, settings: &Settings) -> Problem {
        let have = quoted(self.kinds());
        let ours = OURS.iter().find(|(ours, _)| *ours == kind);
        let key = format!("channels.{name}.kind");
        let origin = settings.origin(&["channels", name.as_str(), "kind"]);
        let message = match ours {
            Some((_, feature)) => format!(
                "channel `{name}`: kind `{kind}` is not in this build (it has: {have}); \
                 rebuild with `--features {feature}`{}",
                alternative(&origin)
            ),
            None => {
                let near = nearest(kind, self.kinds());
                let hint = near.map(|near| format!("; did you mean `{near}`?"));
                format!(
                    "channel `{name}` has the unknown kind `{kind}`: this build has {have}{}",
                    hint.unwrap_or_default()
                )
            }
        };
        Problem::new(origin, key, message)
    }
}

/// A channel that exists only because a provider's variable is set can also do without it.
fn alternative(origin: &Origin) -> String {
    let unset = |name| format!(", or unset {name}");
    origin.variable().map(unset).unwrap_or_default()
}

fn make<F: ChannelFactory>(
    name: &ChannelName,
    settings: &Settings,
) -> Result<Box<dyn Channel>, SettingsError> {
    let config = settings.channel_config::<F::Config>(name)?;
    F::build(name, config).map_err(|error| {
        let path = ["channels", name.as_str(), "settings"];
        let steps: Vec<_> = path.into_iter().chain(error.setting().split('.')).collect();
        let key = steps.join(".");
        let text = error.to_string();
        let reason = text.strip_prefix(error.setting()).unwrap_or(&text);
        let message = format!("`{key}`{reason}");
        Problem::new(settings.origin(&steps), key, message).into()
    })
}
