//! How a worker is doing.

use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// How a worker is doing, for readiness probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It has not begun.
    Starting,
    /// It claims.
    Working,
    /// The database is in trouble; a sentence that says how.
    DatabaseTrouble(String),
    /// It has ended.
    Stopped,
}

/// What a worker does with the database; each may fail while the others succeed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Duty {
    Claims,
    Reading,
    Outcomes,
    Lease,
}

/// Puts together how the worker is doing from how its duties go.
#[derive(Debug)]
pub(crate) struct Pulse {
    health: watch::Sender<Health>,
    troubles: Mutex<[Option<String>; 4]>,
}

impl Pulse {
    pub(crate) fn new(health: watch::Sender<Health>) -> Self {
        Self {
            health,
            troubles: Mutex::default(),
        }
    }

    pub(crate) fn fine(&self, duty: Duty) {
        self.set(duty, None);
    }

    pub(crate) fn trouble(&self, duty: Duty, sentence: String) {
        self.set(duty, Some(sentence));
    }

    fn set(&self, duty: Duty, trouble: Option<String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles[duty as usize] = trouble;
        let first = troubles.iter().flatten().next().cloned();
        let now = first.map_or(Health::Working, Health::DatabaseTrouble);
        self.health.send_if_modified(|health| {
            let is_new = *health != now;
            *health = now;
            is_new
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_well_when_all_duties_go_well() {
        let health = watch::Sender::new(Health::Starting);
        let pulse = Pulse::new(health.clone());
        pulse.fine(Duty::Claims);
        assert_eq!(*health.borrow(), Health::Working);
        pulse.trouble(Duty::Outcomes, "full".to_owned());
        pulse.trouble(Duty::Lease, "late".to_owned());
        pulse.fine(Duty::Claims);
        let full = Health::DatabaseTrouble("full".to_owned());
        assert_eq!(*health.borrow(), full);
        pulse.fine(Duty::Outcomes);
        let late = Health::DatabaseTrouble("late".to_owned());
        assert_eq!(*health.borrow(), late);
        pulse.fine(Duty::Lease);
        assert_eq!(*health.borrow(), Health::Working);
    }
}
