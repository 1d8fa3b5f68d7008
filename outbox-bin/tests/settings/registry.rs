//! From settings to channels.

use crate::{from_environment, from_file};
use outbox_bin::{Registry, Settings, builtin_channels};
use outbox_channel::{
    BuildError, Channel, ChannelFactory, ChannelName, Delivery, Receipt, SendError, async_trait,
};
use serde::Deserialize;

struct Slack;

#[async_trait]
impl Channel for Slack {
    async fn send(&self, _: &Delivery) -> Result<Receipt, SendError> {
        Ok(Receipt::new())
    }
}

/// Its author forgot `deny_unknown_fields`.
#[derive(Deserialize)]
struct SlackConfig {
    room: String,
    #[serde(default)]
    retries: u8,
    #[serde(default, rename = "bot_token")]
    _bot_token: Option<Token>,
    #[serde(default, rename = "url")]
    _url: Option<Token>,
}

/// A value whose error quotes it.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Token;

impl TryFrom<String> for Token {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Err(format!("{text} is no token"))
    }
}

impl ChannelFactory for Slack {
    const KIND: &'static str = "slack";
    type Config = SlackConfig;

    fn build(_: &ChannelName, config: SlackConfig) -> Result<Box<dyn Channel>, BuildError> {
        if config.room.is_empty() || config.retries > 9 {
            return Err(BuildError::new(
                "room",
                "is empty: name the room to post to",
            ));
        }
        Ok(Box::new(Self))
    }
}

/// Takes the place of the built-in channel.
struct Loud;

impl ChannelFactory for Loud {
    const KIND: &'static str = "null";
    type Config = serde_json::Map<String, serde_json::Value>;

    fn build(_: &ChannelName, _: Self::Config) -> Result<Box<dyn Channel>, BuildError> {
        Err(BuildError::new("loud", "was asked"))
    }
}

fn registry() -> Registry {
    builtin_channels().register::<Slack>()
}

fn refusal(registry: &Registry, settings: &Settings) -> String {
    registry.build(settings).err().unwrap().to_string()
}

#[test]
fn every_channel_is_made_under_its_name() {
    let settings = from_file(
        r#"
        [channels.a]
        kind = "null"
        [channels.b]
        kind = "null"
        settings.latency = "5ms"
        [channels.ops]
        kind = "slack"
        settings = { room = "ops" }
        "#,
    );
    let channels = registry().build(&settings).unwrap();
    let names: Vec<_> = channels.keys().map(ChannelName::as_str).collect();
    assert_eq!(names, ["a", "b", "ops"]);
}

#[test]
fn each_mistake_in_a_channels_own_settings() {
    let cases = [
        (
            "{ rom = \"x\", room = \"y\" }",
            "unknown key `channels.ops.settings.rom`; did you mean `room`?",
        ),
        (
            "{ colour = 1, room = \"y\" }",
            "unknown key `channels.ops.settings.colour`; in `channels.ops.settings` there are `room`, `retries`, `bot_token`, `url`",
        ),
        (
            "{}",
            "missing key `channels.ops.settings.room`: add it, or set OUTBOX_CHANNELS__OPS__SETTINGS__ROOM",
        ),
        (
            "{ room = 5 }",
            "`channels.ops.settings.room`: expected a string, found a number",
        ),
        (
            "{ room = \"x\", retries = 256 }",
            "`channels.ops.settings.retries`: not a valid value: expected a whole number",
        ),
        (
            "{ room = \"x\", bot_token = \"hunter2\" }",
            "`channels.ops.settings.bot_token`: not a valid value",
        ),
        (
            "{ room = \"x\", url = \"hunter2\" }",
            "`channels.ops.settings.url`: … is no token",
        ),
        (
            "{ room = \"\" }",
            "`channels.ops.settings.room`: is empty: name the room to post to",
        ),
    ];
    for (table, expected) in cases {
        let file = format!("[channels.ops]\nkind = \"slack\"\nsettings = {table}");
        let error = refusal(&registry(), &from_file(&file));
        assert!(
            error.starts_with(&format!("outbox.toml: {expected}")),
            "{table}: {error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_mistake_in_a_variable_is_told_by_its_name() {
    let environment = [
        ("OUTBOX_CHANNELS__OPS__KIND", "slack"),
        ("OUTBOX_CHANNELS__OPS__SETTINGS__ROOM", "ops"),
        ("OUTBOX_CHANNELS__OPS__SETTINGS__RETRYS", "5"),
    ];
    let error = refusal(&registry(), &from_environment(&environment));
    let expected = "environment variable OUTBOX_CHANNELS__OPS__SETTINGS__RETRYS: leads to no \
                    setting; did you mean OUTBOX_CHANNELS__OPS__SETTINGS__RETRIES?";
    assert_eq!(error, expected);
}

#[test]
fn all_channels_are_looked_at() {
    let settings =
        from_file("[channels.a]\nkind = \"slack\"\n[channels.b]\nkind = \"null\"\nsettings.x = 1");
    let error = registry().build(&settings).err().unwrap();
    let keys: Vec<_> = error
        .problems()
        .iter()
        .map(|problem| problem.key())
        .collect();
    assert_eq!(keys, ["channels.a.settings.room", "channels.b.settings.x"]);
}

#[test]
fn an_unknown_kind_names_those_that_exist() {
    let small = Registry::new()
        .register::<Slack>()
        .register::<outbox_bin::Null>();
    let error = refusal(&small, &from_file("[channels.x]\nkind = \"slak\""));
    let expected = "outbox.toml: channel `x` has the unknown kind `slak`: this build has `null`, \
                    `slack`; did you mean `slack`?";
    assert_eq!(error, expected);
}

#[test]
fn a_kind_that_was_compiled_out_names_its_feature() {
    let small = Registry::new().register::<outbox_bin::Null>();
    for kind in ["email", "sms", "webhook"] {
        let error = refusal(
            &small,
            &from_file(&format!("[channels.x]\nkind = \"{kind}\"")),
        );
        let expected = format!(
            "outbox.toml: channel `x`: kind `{kind}` is not in this build (it has: `null`); \
             rebuild with `--features {kind}`"
        );
        assert_eq!(error, expected);
    }
    let error = refusal(&small, &from_environment(&[("TWILIO_ACCOUNT_SID", "AC1")]));
    let expected = "environment variable TWILIO_ACCOUNT_SID: channel `sms`: kind `sms` is not in \
                    this build (it has: `null`); rebuild with `--features sms`, or unset \
                    TWILIO_ACCOUNT_SID";
    assert_eq!(error, expected);
}

#[test]
fn the_last_registration_of_a_kind_wins() {
    let registry = builtin_channels().register::<Loud>();
    let error = refusal(
        &registry,
        &from_file("[channels.x]\nkind = \"null\"\nsettings.y = 1"),
    );
    assert!(error.contains("loud`: was asked"), "{error}");
}

#[test]
fn the_build_has_the_kinds_of_its_features() {
    let mut expected = vec!["null"];
    expected.extend(cfg!(feature = "email").then_some("email"));
    expected.extend(cfg!(feature = "sms").then_some("sms"));
    expected.extend(cfg!(feature = "webhook").then_some("webhook"));
    expected.sort_unstable();
    assert_eq!(builtin_channels().kinds().collect::<Vec<_>>(), expected);
}

/// The variables and the channels' own settings have the same names.
#[cfg(all(feature = "email", feature = "sms", feature = "webhook"))]
#[tokio::test]
async fn provider_variables_are_what_the_channels_take() {
    let common = [
        ("SMTP_FROM", "ada@example.org"),
        ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001"),
        ("TWILIO_AUTH_TOKEN", "token"),
        ("WEBHOOK_URL", "https://example.org/in"),
        ("WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("OUTBOX_CHANNELS__WEBHOOK__SETTINGS__ALLOW_PRIVATE", "true"),
    ];
    let ways: [&[(&str, &str)]; 2] = [
        &[
            ("SMTP_URL", "smtp://ada:pw@mx.example.org:587"),
            ("TWILIO_FROM", "+15550100"),
        ],
        &[
            ("SMTP_HOST", "mx.example.org"),
            ("SMTP_PORT", "587"),
            ("SMTP_USER", "ada"),
            ("SMTP_PASS", "0042"),
            (
                "TWILIO_MESSAGING_SERVICE_SID",
                "MG00000000000000000000000000000001",
            ),
        ],
    ];
    for way in ways {
        let settings = from_environment(&[&common[..], way].concat());
        let channels = builtin_channels().build(&settings).unwrap();
        let names: Vec<_> = channels.keys().map(ChannelName::as_str).collect();
        assert_eq!(names, ["email", "sms", "webhook"]);
    }
}
