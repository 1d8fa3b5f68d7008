//! Stand-ins for all three providers.

use super::{Scene, Shop};
use outbox_sandbox::smtp::SmtpServer;
use outbox_sandbox::twilio::TwilioServer;
use outbox_sandbox::webhook::WebhookReceiver;

pub(crate) struct Providers {
    pub(crate) smtp: SmtpServer,
    pub(crate) twilio: TwilioServer,
    pub(crate) webhook: WebhookReceiver,
}

impl Providers {
    const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
    const SMTP_PASSWORD: &str = "smtp-Pa55word";
    const TOKEN: &str = "twilio-T0ken";
    const SECRET: &str = "whsec_ZTJlLXdlYmhvb2stc2VjcmV0LWUyZS13ZWJob29r";

    pub(crate) async fn start() -> Self {
        let smtp = SmtpServer::builder().credentials("shop", Self::SMTP_PASSWORD);
        Self {
            smtp: smtp.start().await.unwrap(),
            twilio: TwilioServer::start(Self::ACCOUNT, Self::TOKEN)
                .await
                .unwrap(),
            webhook: WebhookReceiver::start(&[Self::SECRET]).await.unwrap(),
        }
    }

    /// The variables under which hosting platforms hand out credentials, and no file. (Those
    /// with a `__` are there because these providers are on this machine.)
    pub(crate) fn scene(&self, shop: &Shop) -> Scene {
        Scene::at(shop)
            .set("SMTP_URL", self.smtp.url())
            .set("SMTP_FROM", "Shop <shop@example.org>")
            .set("TWILIO_ACCOUNT_SID", Self::ACCOUNT)
            .set("TWILIO_AUTH_TOKEN", Self::TOKEN)
            .set("TWILIO_FROM", "+15005550006")
            .set(
                "OUTBOX_CHANNELS__SMS__SETTINGS__BASE_URL",
                self.twilio.base_url(),
            )
            .set(
                "WEBHOOK_URL",
                format!("{}?token=url-T0ken", self.webhook.url()),
            )
            .set("WEBHOOK_SECRET", Self::SECRET)
            .set("OUTBOX_CHANNELS__WEBHOOK__SETTINGS__ALLOW_PRIVATE", "true")
            .secret(Self::SMTP_PASSWORD)
            .secret(Self::TOKEN)
            .secret(Self::SECRET)
            .secret("url-T0ken")
    }
}
