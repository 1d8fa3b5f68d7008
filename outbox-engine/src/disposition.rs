//! What follows from an outcome: a decision without I/O.

use crate::retry::RetryPolicy;
use outbox_channel::{ErrorClass, SendError};
use std::time::Duration;

/// What a channel wants done when nobody can know whether a message was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnAmbiguous {
    /// Send it again: the receiver drops what it has had, by the delivery id.
    #[default]
    Retry,
    /// Wait for a human.
    Hold,
    /// Ask the provider, and wait for a human when it cannot tell.
    Verify,
}

impl OnAmbiguous {
    /// Whether an attempt has to be written down before it begins: should the worker die with
    /// it, the next one must know that its outcome is unknown.
    pub(crate) fn needs_to_know(self) -> bool {
        self != Self::Retry
    }
}

/// What a dead letter means for later events of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDead {
    /// The next one goes.
    #[default]
    Skip,
    /// It is held instead of dead, and they wait with it for a human.
    Block,
}

/// What happens next to a delivery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Disposition {
    /// It is delivered.
    Delivered,
    /// Again, after a wait; so many attempts are spent.
    Retry {
        /// Attempts spent.
        spent: u32,
        /// How long from now.
        wait: Duration,
    },
    /// A dead letter.
    Dead,
    /// It waits for a human; so many attempts are spent.
    Hold {
        /// Attempts spent.
        spent: u32,
    },
    /// The provider is to be asked; so many attempts are spent.
    Verify {
        /// Attempts spent.
        spent: u32,
    },
    /// The channel is broken: later, and this attempt does not count.
    Postpone,
}

/// What follows when an attempt ends with `outcome` after `spent_before` others were spent.
/// `max_retries` is the event's own, `random` is from 0 to 1.
#[must_use]
pub fn decide(
    outcome: Result<(), &SendError>,
    spent_before: u32,
    max_retries: Option<u32>,
    policy: &RetryPolicy,
    on_ambiguous: OnAmbiguous,
    random: f64,
) -> Disposition {
    let Err(error) = outcome else {
        return Disposition::Delivered;
    };
    let spent = spent_before.saturating_add(1);
    match (error.class(), on_ambiguous) {
        (ErrorClass::Unavailable, _) => Disposition::Postpone,
        (ErrorClass::Permanent, _) => Disposition::Dead,
        (ErrorClass::Ambiguous, OnAmbiguous::Hold) => Disposition::Hold { spent },
        (ErrorClass::Ambiguous, OnAmbiguous::Verify) => Disposition::Verify { spent },
        (ErrorClass::Transient, _) | (ErrorClass::Ambiguous, OnAmbiguous::Retry) => {
            if spent > max_retries.unwrap_or(policy.max_retries) {
                return Disposition::Dead;
            }
            let wait = policy.delay(spent, error.retry_after(), random);
            Disposition::Retry { spent, wait }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: [ErrorClass; 4] = [
        ErrorClass::Transient,
        ErrorClass::Permanent,
        ErrorClass::Unavailable,
        ErrorClass::Ambiguous,
    ];

    fn policy() -> RetryPolicy {
        RetryPolicy {
            max_retries: 3,
            jitter: 0.0,
            ..RetryPolicy::default()
        }
    }

    fn after(class: ErrorClass, spent: u32, max: Option<u32>, on: OnAmbiguous) -> Disposition {
        let error = SendError::new(class, "code", "message");
        decide(Err(&error), spent, max, &policy(), on, 0.5)
    }

    #[test]
    fn success_is_delivered_however_many_attempts_it_took() {
        for spent in [0, 3, u32::MAX] {
            let decided = decide(Ok(()), spent, Some(0), &policy(), OnAmbiguous::Hold, 0.0);
            assert_eq!(decided, Disposition::Delivered);
        }
    }

    #[test]
    fn every_class_under_every_policy_at_every_count() {
        for on in [OnAmbiguous::Retry, OnAmbiguous::Hold, OnAmbiguous::Verify] {
            for class in CLASSES {
                for max in [None, Some(0), Some(1), Some(10)] {
                    for spent in 0..12 {
                        let limit = max.unwrap_or(3);
                        let expected = match class {
                            ErrorClass::Unavailable => Disposition::Postpone,
                            ErrorClass::Permanent => Disposition::Dead,
                            ErrorClass::Ambiguous if on == OnAmbiguous::Hold => {
                                Disposition::Hold { spent: spent + 1 }
                            }
                            ErrorClass::Ambiguous if on == OnAmbiguous::Verify => {
                                Disposition::Verify { spent: spent + 1 }
                            }
                            _ if spent >= limit => Disposition::Dead,
                            _ => Disposition::Retry {
                                spent: spent + 1,
                                wait: policy().delay(spent + 1, None, 0.5),
                            },
                        };
                        assert_eq!(
                            after(class, spent, max, on),
                            expected,
                            "{class} {spent} {max:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn counts_at_the_end_of_their_range_do_not_wrap() {
        let decided = after(ErrorClass::Transient, u32::MAX, None, OnAmbiguous::Retry);
        assert_eq!(decided, Disposition::Dead);
    }

    #[test]
    fn retry_after_reaches_the_wait() {
        let error = SendError::transient("503", "busy").with_retry_after(Duration::from_secs(77));
        let decided = decide(Err(&error), 0, None, &policy(), OnAmbiguous::Retry, 0.5);
        assert_eq!(
            decided,
            Disposition::Retry {
                spent: 1,
                wait: Duration::from_secs(77)
            }
        );
    }
}
