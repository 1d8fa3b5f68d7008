//! `[[routes]]`.

use crate::{errors, from_file, warnings};
use outbox_bin::settings::Targets;

const CHANNELS: &str =
    "[admin]\napi_key = \"k\"\n[channels.crm]\nkind = \"null\"\n[channels.sms]\nkind = \"null\"\n";

fn with_channels(routes: &str) -> String {
    format!("{CHANNELS}{routes}")
}

#[test]
fn routes_keep_their_order_and_templates() {
    let settings = from_file(&with_channels(
        r#"
        [[routes]]
        event = "invoice.*"
        channels = ["crm", "sms"]
        [routes.message.sms]
        body = "Invoice {{ payload.number }}"
        [[routes]]
        event = "*"
        fallback = ["sms", "crm"]
        "#,
    ));
    let [first, second] = &settings.routes[..] else {
        panic!("{:?}", settings.routes);
    };
    assert_eq!(first.event, "invoice.*");
    let names = |targets: &Targets| {
        targets
            .channels()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert!(matches!(first.targets, Targets::All(_)));
    assert_eq!(names(&first.targets), ["crm", "sms"]);
    assert_eq!(first.message["sms"]["body"], "Invoice {{ payload.number }}");
    assert!(matches!(second.targets, Targets::Fallback(_)));
    assert_eq!(names(&second.targets), ["sms", "crm"]);
    assert!(settings.warnings().is_empty());
}

#[test]
fn each_mistake_in_a_route() {
    let cases = [
        (
            "[[routes]]\nevent = \"a\"",
            "`routes[0]` (event `a`) names no channels: add `channels",
        ),
        (
            "[[routes]]\nevent = \"a\"\nchannels = [\"crm\"]\nfallback = [\"sms\"]",
            "`routes[0].fallback` (event `a`) is there beside `channels`: keep one of them",
        ),
        (
            "[[routes]]\nevent = \"a\"\nchannels = [\"cmr\"]",
            "`routes[0].channels` (event `a`) names `cmr`, but the channels are `crm`, `sms`; did you mean `crm`?",
        ),
        (
            "[[routes]]\nevent = \"a\"\nfallback = [\"pigeon\"]",
            "`routes[0].fallback` (event `a`) names `pigeon`, but the channels are `crm`, `sms`",
        ),
        (
            "[[routes]]\nevent = \"a\"\nchannels = [\"crm\", \"crm\"]",
            "`routes[0].channels` (event `a`) names `crm` twice",
        ),
        (
            "[[routes]]\nevent = \"a\"\nchannels = []",
            "`routes[0].channels` (event `a`) is empty",
        ),
        (
            "[[routes]]\nevent = \"a\"\nchannels = [\"crm\"]\nmessage.sms.body = \"x\"",
            "`routes[0].message.sms` (event `a`) is no channel of this route, which goes to `crm`",
        ),
        (
            "[[routes]]\nevent = \" \"\nchannels = [\"crm\"]",
            "`routes[0].event` (event ` `) is empty: name an event type",
        ),
        (
            "[[routes]]\nchannels = [\"crm\"]",
            "missing key `routes[0].event`",
        ),
        (
            "[[routes]]\nevnt = \"a\"\nevent = \"a\"\nchannels = [\"crm\"]",
            "unknown key `routes[0].evnt`; did you mean `event`?",
        ),
        (
            "[[routes]]\nevent = \"a\"\nchannels = \"crm\"",
            "`routes[0].channels`: expected a list, found text",
        ),
        (
            "[[routes]]\nevent = \"a\"\nchannels = [\"CRM\"]",
            "`routes[0].channels[0]`: `CRM` is not a channel name",
        ),
        (
            "[[routes]]\nevent = \"a\"\nchannels = [\"crm\"]\nmessage.crm.n = 5",
            "`routes[0].message.crm.n`: expected a string, found a number",
        ),
        (
            "[routes]\nevent = \"a\"",
            "`routes`: expected a list: write `[[routes]]` before each route",
        ),
    ];
    for (routes, expected) in cases {
        let found = errors(&with_channels(routes), &[], &[]);
        let expected = format!("outbox.toml: {expected}");
        assert!(found[0].starts_with(&expected), "{routes}: {found:?}");
        assert_eq!(found.len(), 1, "{routes}: {found:?}");
    }
}

#[test]
fn a_route_without_any_channel_configured() {
    let found = errors("[[routes]]\nevent = \"a\"\nchannels = [\"crm\"]", &[], &[]);
    let expected = "names `crm`, but no channel is configured: add `[channels.crm]`";
    assert!(found[0].ends_with(expected), "{found:?}");
}

#[test]
fn an_item_of_the_list_has_no_variable() {
    let found = errors(CHANNELS, &[], &[("OUTBOX_ROUTES__0__EVENT", "a")]);
    assert!(
        found[0].contains("set OUTBOX_ROUTES to the whole list"),
        "{found:?}"
    );
}

#[test]
fn a_route_behind_one_that_takes_all_is_warned_of() {
    let route = |event: &str| format!("[[routes]]\nevent = \"{event}\"\nchannels = [\"crm\"]\n");
    let told = |events: &[&str]| {
        let routes: String = events.iter().map(|event| route(event)).collect();
        warnings(&from_file(&with_channels(&routes)))
    };
    let never = "outbox.toml: the route for `b` is never used: the one for `*` comes first";
    assert_eq!(told(&["a", "*", "b"]), [never]);
    assert_eq!(told(&["a", "b", "a"]).len(), 1);
    assert!(told(&["a", "a.*", "*"]).is_empty());
}
