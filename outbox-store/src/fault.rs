//! Where tests kill the process: before and after each statement and each send on the way from
//! claim to settle, of pruning, and of what an operator decides by hand. Without the feature
//! `fault-points` there is nothing here but names.

/// Declares the steps once, so that none can be left out of a list of all.
macro_rules! steps {
    ($($step:ident $name:literal),* $(,)?) => {
        /// A statement or a send between whose beginning and end a process may die.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names say it")]
        pub enum Step { $($step),* }

        impl Step {
            /// All steps.
            pub const ALL: &[Self] = &[$(Self::$step),*];

            /// As it stands in `OUTBOX_KILL_AT`, before `.before` or `.after`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$step => $name),* }
            }
        }
    };
}

steps! {
    Declare "declare", Installation "installation", Register "register", Claim "claim",
    ReadEvents "read_events", DropOrphans "orphans", Begin "begin", Unblock "unblock", Commit "commit",
    Channels "channels", NamedChannels "named_channels", Contents "contents",
    BeginAttempts "begin_attempts", Send "send", Verify "verify",
    ChannelDown "channel_down", ChannelUp "channel_up", Settle "settle", Asleep "asleep",
    Listen "listen", NextDue "next_due", Heartbeat "heartbeat", Deregister "deregister",
    ForgetReceipts "forget_receipts", Prune "prune", Forget "forget",
    LockUndelivered "lock_undelivered", SettleByHand "settle_by_hand",
    Undelivered "undelivered", LockEvents "lock_events", Replay "replay",
    WakeWorkers "wake_workers",
}

/// The call, and nothing else.
#[cfg(not(feature = "fault-points"))]
pub fn around<C>(_: Step, call: C) -> C {
    call
}

/// The call, between two points at which the process dies at once, without any destructor, when
/// the variable `OUTBOX_KILL_AT` names one of them: `settle.after`, or `settle.after:3` for the
/// third time that it is reached.
#[cfg(feature = "fault-points")]
pub async fn around<C: IntoFuture>(step: Step, call: C) -> C::Output {
    armed::point(step, "before");
    let output = call.await;
    armed::point(step, "after");
    output
}

#[cfg(feature = "fault-points")]
mod armed {
    use super::Step;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Target {
        point: String,
        passes_left: AtomicU32,
    }

    pub(super) fn point(step: Step, side: &str) {
        static TARGET: OnceLock<Option<Target>> = OnceLock::new();
        let Some(target) = TARGET.get_or_init(target) else {
            return;
        };
        let is_it = target
            .point
            .strip_suffix(side)
            .and_then(|rest| rest.strip_suffix('.'))
            == Some(step.name());
        if is_it && target.passes_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    }

    fn target() -> Option<Target> {
        let wish = std::env::var("OUTBOX_KILL_AT").ok()?;
        let (point, pass) = wish.split_once(':').unwrap_or((&wish, "1"));
        Some(Target {
            point: point.to_owned(),
            passes_left: AtomicU32::new(pass.parse().ok()?),
        })
    }
}
