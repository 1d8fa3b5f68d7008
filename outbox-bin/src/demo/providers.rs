//! The stand-in providers, and how each of them fails now and then.

use outbox_sandbox::smtp::{SmtpFault, SmtpServer, SmtpStep};
use outbox_sandbox::twilio::{CallbackFault, TwilioFault, TwilioServer};
use outbox_sandbox::webhook::{WebhookFault, WebhookReceiver};
use std::collections::BTreeSet;
use std::time::Duration;

/// The admin key of the demonstration; it opens nothing else.
pub(super) const API_KEY: &str = "demo";
/// Mail to this address bounces.
pub(super) const BOUNCING: &str = "gone@customer.example";
/// Twilio takes messages to this number, and no phone gets them.
pub(super) const UNREACHABLE: &str = "+15550000000";

const ACCOUNT: &str = "AC00000000000000000000000000000000";
const TOKEN: &str = "demo-token";
const SECRET: &str = "whsec_b3V0Ym94LWRlbW8tc2VjcmV0LW91dGJveC1kZW1v";

pub(super) struct Providers {
    smtp: SmtpServer,
    twilio: TwilioServer,
    crm: WebhookReceiver,
}

impl Providers {
    pub(super) async fn start() -> std::io::Result<Self> {
        let smtp = SmtpServer::builder().keep(200_000).start().await?;
        smtp.faults()
            .every(9, SmtpFault::reply(SmtpStep::Mail, 421));
        smtp.reject_recipient(BOUNCING);
        let twilio = TwilioServer::start(ACCOUNT, TOKEN).await?;
        let retry_after = Duration::from_secs(1);
        twilio
            .faults()
            .every(6, TwilioFault::TooManyRequests { retry_after });
        twilio.cut_off(UNREACHABLE);
        twilio.callback_faults().every(4, CallbackFault::Repeat);
        twilio.callback_faults().every(5, CallbackFault::Reverse);
        let crm = WebhookReceiver::start(&[SECRET]).await?;
        crm.faults().every(
            7,
            WebhookFault::Status {
                code: 503,
                retry_after: Some(retry_after),
            },
        );
        Ok(Self { smtp, twilio, crm })
    }

    /// Where they are, as settings.
    pub(super) fn settings(&self, database_url: &str, listen: &str) -> String {
        // A JSON string is a TOML string as well.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        format!(
            "[database]\nurl = {database}\n\
             [admin]\nlisten = \"{listen}\"\napi_key = {key}\n\
             [channels.email]\nkind = \"email\"\n\
             [channels.email.settings]\nurl = {smtp}\nfrom = \"Demo Shop <shop@demo.example>\"\n\
             [channels.sms]\nkind = \"sms\"\n\
             [channels.sms.settings]\naccount_sid = \"{ACCOUNT}\"\nauth_token = \"{TOKEN}\"\n\
             from = \"+15005550006\"\nbase_url = {twilio}\n\
             status_callback = \"http://{listen}/hooks/twilio/sms\"\n\
             [channels.crm]\nkind = \"webhook\"\n\
             [channels.crm.settings]\nurl = {crm}\nsecret = \"{SECRET}\"\nallow_private = true\n",
            database = quoted(database_url),
            key = quoted(API_KEY),
            smtp = quoted(&self.smtp.url()),
            twilio = quoted(&self.twilio.base_url()),
            crm = quoted(&self.crm.url()),
        )
    }

    /// Messages that a channel's provider has taken: all, and different ones.
    pub(super) fn received(&self, channel: &str) -> (u64, u64) {
        match channel {
            "email" => {
                let mails = self.smtp.mails();
                let ids: BTreeSet<_> = mails
                    .iter()
                    .filter_map(|mail| mail.header("Message-ID"))
                    .collect();
                (self.smtp.mail_count(), ids.len() as u64)
            }
            "sms" => (self.twilio.total(), self.twilio.total()),
            _ => (self.crm.total(), self.crm.distinct() as u64),
        }
    }

    /// Messages that Twilio took and could not deliver.
    pub(super) fn undelivered(&self) -> u64 {
        let messages = self.twilio.messages();
        let undelivered = messages.iter().filter(|message| message.to == UNREACHABLE);
        undelivered.count() as u64
    }

    /// Requests that the webhook receiver took for forged.
    pub(super) fn forged(&self) -> u64 {
        self.crm.rejected()
    }
}
