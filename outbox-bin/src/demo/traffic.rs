//! A small shop: orders and events, written in one transaction each.

use super::providers::{BOUNCING, UNREACHABLE};
use crate::failure::Failure;
use anyhow::Context;
use outbox_store::{NewEvent, Store, enqueue};
use serde_json::json;
use std::collections::BTreeMap;

/// One in so many transactions is rolled back, and its event is never sent.
const ROLLED_BACK_EVERY: u64 = 20;
const NAMES: &[&str] = &[
    "Ada", "Grace", "Edsger", "Barbara", "Donald", "Radia", "Leslie",
];

/// Writes events, and remembers how each of them should end.
pub(super) struct Traffic {
    orders: u64,
    expected: BTreeMap<i64, &'static str>,
}

impl Traffic {
    pub(super) async fn begin(store: &Store) -> Result<Self, Failure> {
        sqlx::raw_sql(
            "CREATE TABLE IF NOT EXISTS outbox_demo_orders \
             (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text, paid boolean)",
        )
        .execute(store.pool())
        .await
        .context("the demo's table cannot be made")?;
        Ok(Self {
            orders: 0,
            expected: BTreeMap::new(),
        })
    }

    /// Events committed so far.
    pub(super) fn written(&self) -> u64 {
        self.expected.len() as u64
    }

    /// Event ids, and the status in which each should end.
    pub(super) fn expected(&self) -> &BTreeMap<i64, &'static str> {
        &self.expected
    }

    /// The business change and its event, in one transaction.
    pub(super) async fn write(&mut self, store: &Store) -> Result<(), Failure> {
        self.orders += 1;
        let (event, ends_as) = self.event();
        let mut transaction = store
            .pool()
            .begin()
            .await
            .context("cannot begin a transaction")?;
        sqlx::query("INSERT INTO outbox_demo_orders (customer, paid) VALUES ($1, true)")
            .bind(self.customer())
            .execute(&mut *transaction)
            .await
            .context("cannot write an order")?;
        let id = enqueue(&mut *transaction, &event)
            .await
            .context("cannot write an event")?;
        if self.orders.is_multiple_of(ROLLED_BACK_EVERY) {
            transaction.rollback().await.context("cannot roll back")?;
            return Ok(());
        }
        transaction.commit().await.context("cannot commit")?;
        self.expected.insert(id, ends_as);
        Ok(())
    }

    fn customer(&self) -> &'static str {
        let at = usize::try_from(self.orders).unwrap_or_default() % NAMES.len();
        NAMES[at]
    }

    fn event(&self) -> (NewEvent, &'static str) {
        let name = self.customer();
        let order = 1_000 + self.orders;
        let mut payload = json!({
            "order": order,
            "name": name,
            "amount": format!("{}.90", 9 + self.orders % 90),
            "to": format!("{}@customer.example", name.to_lowercase()),
            "phone": format!("+1555{:07}", self.orders % 10_000_000),
        });
        match self.orders % 12 {
            0 | 5 => {
                payload["code"] = json!(format!("{:06}", rand::random_range(0..1_000_000)));
                (NewEvent::new("login.code", payload), "processed")
            }
            1 => (NewEvent::new("order.shipped", payload), "processed"),
            // A phone that is switched off. Twilio takes the message, and tells that later.
            6 => {
                payload["phone"] = json!(UNREACHABLE);
                (NewEvent::new("order.shipped", payload), "processed")
            }
            3 => (NewEvent::new("crm.contact_changed", payload), "processed"),
            // The address does not exist any more: a hard bounce.
            4 if self.orders.is_multiple_of(2) => {
                payload["to"] = json!(BOUNCING);
                (NewEvent::new("order.paid", payload), "failed")
            }
            // A number that Twilio calls invalid; the e-mail gets through instead.
            7 => {
                payload["phone"] = json!("+15005550001");
                payload["code"] = json!("424242");
                (NewEvent::new("login.code", payload), "processed")
            }
            9 => (NewEvent::new("audit.noted", payload), "skipped"),
            _ => (NewEvent::new("order.paid", payload), "processed"),
        }
    }
}
