//! The system that is broken: PostgreSQL, workers, the receiver, and proxies between them.

use crate::database::Database;
use crate::fault::{Damage, Fault, Link, Step};
use crate::journal::Journal;
use crate::recipe::Recipe;
use crate::worker::{Order, Slot};
use outbox_sandbox::proxy::{Direction, TcpProxy};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

pub(crate) struct System {
    journal: Arc<Journal>,
    recipe: Arc<Recipe>,
    pub(crate) database: Database,
    producers: TcpProxy,
    workers: Vec<Place>,
    /// What is being broken: nothing is broken in two ways at once.
    busy: Mutex<HashSet<Part>>,
}

/// A worker and its connections.
struct Place {
    slot: Slot,
    to_database: TcpProxy,
    to_provider: TcpProxy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Worker(usize),
    Link(Link),
    Database,
}

impl System {
    pub(crate) async fn start(
        journal: Arc<Journal>,
        recipe: Arc<Recipe>,
        database: Database,
        receiver: SocketAddr,
        workers: usize,
    ) -> anyhow::Result<Self> {
        let mut places = Vec::with_capacity(workers);
        for number in 0..workers {
            let to_database = TcpProxy::start(database.address).await?;
            let to_provider = TcpProxy::start(receiver).await?;
            let slot = Slot::start(
                number,
                Arc::clone(&recipe),
                Arc::clone(&journal),
                to_database.address(),
                to_provider.address(),
            );
            places.push(Place {
                slot,
                to_database,
                to_provider,
            });
        }
        Ok(Self {
            producers: TcpProxy::start(database.address).await?,
            workers: places,
            busy: Mutex::default(),
            journal,
            recipe,
            database,
        })
    }

    /// Where producers connect to.
    pub(crate) fn producers_address(&self) -> SocketAddr {
        self.producers.address()
    }

    /// Breaks something, mends it after its time, and writes it down; nothing when it is broken
    /// already, or cannot be broken here.
    pub(crate) async fn suffer(&self, step: Step) {
        if matches!(step.fault, Fault::Server(trouble) if !self.database.can_suffer(trouble)) {
            return;
        }
        let part = part(step.fault);
        if !self.busy().insert(part) {
            return;
        }
        let from = self.journal.now();
        if let Err(error) = self.inflict(step.fault, step.lasts).await {
            self.journal.wrong(format!("{}: {error:#}", step.fault));
        }
        self.journal.inflicted(step.fault, from, self.journal.now());
        self.busy().remove(&part);
    }

    async fn inflict(&self, fault: Fault, lasts: Duration) -> anyhow::Result<()> {
        match fault {
            Fault::Kill(slot) => self.tell(slot, Order::Kill).await,
            Fault::Terminate(slot) => self.tell(slot, Order::Terminate).await,
            Fault::Pause(slot) => {
                self.tell(slot, Order::Pause).await;
                sleep(lasts).await;
                self.tell(slot, Order::Resume).await;
            }
            Fault::Roll => {
                for slot in 0..self.workers.len() {
                    self.tell(slot, Order::Terminate).await;
                    sleep(self.recipe.grace() / 2).await;
                }
            }
            Fault::Server(trouble) => self.database.suffer(trouble, lasts).await?,
            Fault::Damage(link, damage) => {
                if let Some(proxy) = self.proxy(link) {
                    hurt(proxy, damage, lasts).await;
                }
            }
        }
        Ok(())
    }

    async fn tell(&self, slot: usize, order: Order) {
        if let Some(place) = self.workers.get(slot) {
            place.slot.tell(order).await;
        }
    }

    fn proxy(&self, link: Link) -> Option<&TcpProxy> {
        match link {
            Link::Database(slot) => self.workers.get(slot).map(|place| &place.to_database),
            Link::Provider(slot) => self.workers.get(slot).map(|place| &place.to_provider),
            Link::Producers => Some(&self.producers),
        }
    }

    /// Resets the producers' connections that have fallen silent; nobody is there any more.
    pub(crate) fn release_producers(&self) {
        self.producers.heal();
    }

    /// Stops all workers, in order.
    pub(crate) async fn stop(self) {
        let stops = self.workers.into_iter().map(|place| {
            // The connections last for as long as the worker may need them.
            async move {
                place.slot.stop().await;
                drop((place.to_database, place.to_provider));
            }
        });
        futures_util::future::join_all(stops).await;
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, HashSet<Part>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn part(fault: Fault) -> Part {
    match fault {
        Fault::Kill(slot) | Fault::Pause(slot) | Fault::Terminate(slot) => Part::Worker(slot),
        // All of them; one at a time is enough.
        Fault::Roll => Part::Worker(usize::MAX),
        Fault::Server(_) => Part::Database,
        Fault::Damage(link, _) => Part::Link(link),
    }
}

/// Mends with care: what has fallen silent stays so, for the workers have to notice by
/// themselves.
async fn hurt(proxy: &TcpProxy, damage: Damage, lasts: Duration) {
    match damage {
        Damage::Cut => proxy.cut(),
        Damage::HalfClose(direction) => proxy.half_close(direction),
        Damage::Silence => proxy.silence(),
        Damage::Stall(direction) => {
            let ways = direction.map_or(Direction::BOTH.to_vec(), |way| vec![way]);
            ways.iter().for_each(|way| proxy.stall(*way));
            sleep(lasts).await;
            ways.iter().for_each(|way| proxy.resume(*way));
        }
        Damage::Slow(direction, rate) => {
            proxy.slow(direction, Some(rate));
            sleep(lasts).await;
            proxy.slow(direction, None);
        }
        Damage::Refuse => {
            proxy.refuse(true);
            sleep(lasts).await;
            proxy.refuse(false);
        }
    }
}
