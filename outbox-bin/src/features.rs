//! Every `cfg(feature)` of the binary.

use crate::cli::DemoArgs;
use crate::commands::AdminSide;
use crate::failure::Failure;
use crate::null::Null;
use crate::registry::Registry;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;

/// The channels that come with this build: `null`, and those whose cargo feature is on.
#[must_use]
pub fn builtin_channels() -> Registry {
    let registry = Registry::new().register::<Null>();
    #[cfg(feature = "email")]
    let registry = registry.register::<channel_email::Email>();
    #[cfg(feature = "sms")]
    let registry = registry.register::<channel_sms::Sms>();
    #[cfg(feature = "webhook")]
    let registry = registry.register::<channel_webhook::Webhook>();
    registry
}

/// Something that only some builds can do.
type Running = Pin<Box<dyn Future<Output = Result<ExitCode, Failure>> + Send>>;

/// The admin side, until `shutdown`.
#[cfg(feature = "admin")]
pub(crate) const ADMIN: Option<fn(AdminSide) -> Running> =
    Some(|side| Box::pin(crate::commands::admin::serve(side)));
/// The admin side is not in this build.
#[cfg(not(feature = "admin"))]
pub(crate) const ADMIN: Option<fn(AdminSide) -> Running> = None;

/// The demonstration.
#[cfg(feature = "demo")]
pub(crate) const DEMO: Option<fn(DemoArgs) -> Running> =
    Some(|arguments| Box::pin(crate::demo::run(arguments)));
/// The demonstration is not in this build.
#[cfg(not(feature = "demo"))]
pub(crate) const DEMO: Option<fn(DemoArgs) -> Running> = None;
