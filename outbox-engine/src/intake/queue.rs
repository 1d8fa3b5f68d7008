//! What waits for a channel's runners, and how many of those there have to be.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Runs that wait until one of the channel's runners takes them.
///
/// A runner is a task that takes one after the other until none is left. Runners start each other:
/// a channel that answers at once keeps to few, which costs less than a task for each run, and one
/// that waits for its provider soon has as many as it may.
///
/// While something waits, there is a runner that has yet to ask for more.
pub(crate) struct Queue<T>(Mutex<State<T>>);

struct State<T> {
    waiting: VecDeque<T>,
    runners: usize,
    /// Of those, the ones that have not begun.
    starting: usize,
    most: usize,
    most_starting: usize,
}

/// Whether the caller has to start a runner, which is counted already.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    Start,
    Enough,
}

impl<T> Queue<T> {
    /// For at most `most` runners, at least 1, which so many threads run: each thread keeps the one
    /// that it has started last, and may be busy for a while. One more is for another to take.
    pub(crate) fn new(most: usize, threads: usize) -> Self {
        Self(Mutex::new(State {
            waiting: VecDeque::new(),
            runners: 0,
            starting: 0,
            most,
            most_starting: threads + 1,
        }))
    }

    pub(crate) fn push(&self, run: T) -> Runner {
        let mut state = self.lock();
        state.waiting.push_back(run);
        state.runner()
    }

    /// What a runner does first.
    pub(crate) fn begin(&self) -> Runner {
        let mut state = self.lock();
        state.starting -= 1;
        // One it takes itself.
        if state.waiting.len() > 1 {
            state.runner()
        } else {
            Runner::Enough
        }
    }

    /// What a runner does next. `None`: it ends.
    pub(crate) fn next(&self) -> Option<T> {
        let mut state = self.lock();
        let run = state.waiting.pop_front();
        if run.is_none() {
            state.runners -= 1;
        }
        run
    }

    /// From now on nothing waits for those runners that there are.
    pub(crate) fn lift_limit(&self) -> Runner {
        let mut state = self.lock();
        state.most = usize::MAX;
        if state.waiting.is_empty() {
            Runner::Enough
        } else {
            state.runner()
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn runner(&mut self) -> Runner {
        if self.starting == self.most_starting || self.runners == self.most {
            return Runner::Enough;
        }
        self.starting += 1;
        self.runners += 1;
        Runner::Start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};
    use tokio::sync::Semaphore;

    /// Runs of a channel that takes a permit for each, and what becomes of them.
    struct Desk {
        queue: Queue<usize>,
        permits: Semaphore,
        done: AtomicUsize,
        at_work: AtomicUsize,
        most_at_work: AtomicUsize,
        started: AtomicUsize,
    }

    impl Desk {
        fn new(most: usize, permits: usize) -> Arc<Self> {
            Arc::new(Self {
                queue: Queue::new(most, 1),
                permits: Semaphore::new(permits),
                done: AtomicUsize::new(0),
                at_work: AtomicUsize::new(0),
                most_at_work: AtomicUsize::new(0),
                started: AtomicUsize::new(0),
            })
        }

        fn start(self: &Arc<Self>, runner: Runner) {
            if runner == Runner::Enough {
                return;
            }
            self.started.fetch_add(1, Ordering::SeqCst);
            let desk = Arc::clone(self);
            tokio::spawn(async move {
                desk.start(desk.queue.begin());
                while desk.queue.next().is_some() {
                    let at_work = desk.at_work.fetch_add(1, Ordering::SeqCst) + 1;
                    desk.most_at_work.fetch_max(at_work, Ordering::SeqCst);
                    desk.permits.acquire().await.unwrap().forget();
                    desk.at_work.fetch_sub(1, Ordering::SeqCst);
                    desk.done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }

        fn push(self: &Arc<Self>, runs: usize) {
            for run in 0..runs {
                self.start(self.queue.push(run));
            }
        }

        async fn until(&self, count: &AtomicUsize, is: usize) {
            let reached = async {
                while count.load(Ordering::SeqCst) != is {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let ended = tokio::time::timeout(Duration::from_secs(30), reached).await;
            assert!(ended.is_ok(), "{count:?}, not {is}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nothing_is_left_behind_whoever_pushes_while_runners_end() {
        let desk = Desk::new(3, Semaphore::MAX_PERMITS);
        let pushers = (0..4).map(|_| {
            let desk = Arc::clone(&desk);
            tokio::spawn(async move {
                for _ in 0..5_000 {
                    desk.push(1);
                    tokio::task::yield_now().await;
                }
            })
        });
        for pusher in pushers.collect::<Vec<_>>() {
            pusher.await.unwrap();
        }
        desk.until(&desk.done, 20_000).await;
        assert!(desk.most_at_work.load(Ordering::SeqCst) <= 3);
        assert_eq!(desk.queue.lock().starting, 0);
    }

    #[tokio::test]
    async fn as_many_run_as_may_when_each_has_to_wait() {
        let desk = Desk::new(5, 0);
        desk.push(20);
        desk.until(&desk.at_work, 5).await;
        desk.permits.add_permits(8);
        desk.until(&desk.done, 8).await;
        desk.until(&desk.at_work, 5).await;
        desk.permits.add_permits(12);
        desk.until(&desk.done, 20).await;
        assert_eq!(desk.most_at_work.load(Ordering::SeqCst), 5);
        desk.push(1);
        desk.until(&desk.at_work, 1).await;
    }

    /// Each keeps its thread until as many are at work as there are threads.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn runs_that_keep_their_thread_reach_every_thread() {
        const THREADS: usize = 4;
        let queue = Arc::new(Queue::new(100, THREADS));
        let at_work = Arc::new(AtomicUsize::new(0));
        fn start(runner: Runner, queue: &Arc<Queue<()>>, at_work: &Arc<AtomicUsize>) {
            if runner == Runner::Enough {
                return;
            }
            let (queue, at_work) = (Arc::clone(queue), Arc::clone(at_work));
            tokio::spawn(async move {
                start(queue.begin(), &queue, &at_work);
                while queue.next().is_some() {
                    at_work.fetch_add(1, Ordering::SeqCst);
                    let begun = Instant::now();
                    while at_work.load(Ordering::SeqCst) < THREADS {
                        assert!(begun.elapsed() < Duration::from_secs(30));
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
        let (pushed, reached) = (Arc::clone(&queue), Arc::clone(&at_work));
        let pusher = tokio::spawn(async move {
            (0..20).for_each(|_| start(pushed.push(()), &pushed, &reached));
        });
        pusher.await.unwrap();
        let ended = async {
            while queue.lock().runners > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
        assert!(ended.is_ok(), "{at_work:?} at work at once");
        assert_eq!(at_work.load(Ordering::SeqCst), 20);
    }

    #[tokio::test]
    async fn few_run_when_none_has_to_wait() {
        let desk = Desk::new(1_000, Semaphore::MAX_PERMITS);
        desk.push(1_000);
        desk.until(&desk.done, 1_000).await;
        assert!(
            desk.started.load(Ordering::SeqCst) < 100,
            "{:?}",
            desk.started
        );
    }

    #[tokio::test]
    async fn what_waits_for_runners_that_hang_is_taken_when_the_limit_is_lifted() {
        let desk = Desk::new(2, 0);
        desk.push(10);
        desk.until(&desk.at_work, 2).await;
        desk.start(desk.queue.lift_limit());
        desk.until(&desk.at_work, 10).await;
        desk.push(3);
        desk.until(&desk.at_work, 13).await;
    }
}
